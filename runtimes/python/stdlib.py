"""The part of Python's standard library that plugins can import.

Only modules that are imported while the interpreter is built can be imported later, because there is no file system.
"""

import abc, ast, asyncio, base64, bisect, calendar, cmath, codecs, collections, collections.abc, colorsys
import configparser, contextlib, contextvars, copy, csv, dataclasses, datetime, decimal, difflib, enum, fnmatch
import fractions, functools, glob, graphlib, hashlib, heapq, hmac, html, html.entities, html.parser, inspect, io
import ipaddress, itertools, json, keyword, logging, math, numbers, operator, os, os.path, pathlib, pprint, queue
import random, re, reprlib, secrets, shlex, statistics, string, struct, sys, textwrap, time, timeit, tokenize
import tomllib, traceback, types, typing, unicodedata, urllib.error, urllib.parse, uuid, warnings, weakref
import xml.etree.ElementTree, zlib, zoneinfo
import encodings.ascii, encodings.cp1252, encodings.idna, encodings.latin_1, encodings.utf_16, encodings.utf_8_sig
import email, email.message, email.parser, email.utils, gzip, locale, mimetypes, sched, stringprep, unittest
