//! Agents that speak the Agent Client Protocol, as agents of hfs.
//!
//! Such an agent is a program of its own: Claude Code, Codex, opencode, Gemini CLI and others. [`AcpAgent`] starts it, sends
//! prompts, and writes what it does as the messages of a turn. A [`PermissionPolicy`] decides what it may do, and
//! [`Attachments`] stores pictures. Everything that an agent can do wrong, from ending to flooding, costs the turn in which it
//! happens: the next prompt starts the agent again.
//!
//! The other way round, [`EditorConnection`] is the side of an agent: editors use hfs as theirs. A [`FrontEnd`] lets an editor
//! see what an agent behind hfs does, as it does it.
//!
//! The protocol's types are those of the crate `agent-client-protocol-schema`; the JSON-RPC around them is this crate's, so that
//! every bound and every unknown message is handled here (see docs/decisions).

#![cfg_attr(test, allow(clippy::string_slice, reason = "tests may panic"))]

mod agent;
mod check;
mod connection;
mod conversation_text;
mod editor;
mod error;
mod front_end;
mod launch;
mod log;
mod memory;
mod permission;
mod process;
mod prompt;
mod replay;
mod rpc;
mod supervisor;
mod tool_call;
mod turn;

pub use agent::{AcpAgent, AgentSessions, Attachments, ToolServer};
pub use agent_client_protocol_schema::{ProtocolVersion, v1 as wire};
pub use check::{AgentReport, CHECK_LIMIT, LoginMethod, check, report};
pub use editor::{EditorClosed, EditorConnection, EditorInput};
pub use error::AcpError;
pub use front_end::{FileAccess, FrontEnd, OptionValue};
pub use launch::{Launch, environment};
pub use memory::remembered_session;
pub use permission::{
    ActionKind, Decision, FileChange, ParseActionKindError, PermissionPolicy, PermissionQuestion,
};
pub use prompt::{PromptContent, PromptFile, PromptPicture, read_prompt};
pub use replay::{Replay, answer_update, delta_update, note_update};
pub use rpc::{RpcError, RpcErrorCode, RpcMessage as EditorMessage};
pub use supervisor::supervise;
pub use turn::TurnLimits;
