//! `docs/plugin-contract.md` is generated from the contract.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use wit_parser::{Docs, FunctionKind, Interface, Resolve, Type, TypeDefKind, TypeId};

const PAGE_HEADER: &str = "# The plugin contract\n\n\
    <!-- Generated from wit/0.1/hfs-plugin.wit: UPDATE_REFERENCE=1 cargo test -p hfs-plugins reference -->\n\n";

#[test]
fn the_page_of_the_contract_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = page(&fs::read_to_string(root.join("wit/0.1/hfs-plugin.wit")).unwrap());
    let path = root.join("docs/plugin-contract.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(current == page, "run this test with UPDATE_REFERENCE=1 and commit {}", path.display());
}

fn page(contract: &str) -> String {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("hfs-plugin.wit", contract).unwrap();
    let package = &resolve.packages[package];
    let mut page = PAGE_HEADER.to_owned();
    paragraph(&mut page, &package.docs);
    for (name, id) in &package.interfaces {
        let interface = &resolve.interfaces[*id];
        write!(page, "## `{name}`\n\n").unwrap();
        paragraph(&mut page, &interface.docs);
        types(&mut page, &resolve, interface);
        for (name, function) in &interface.functions {
            assert_eq!(function.kind, FunctionKind::Freestanding);
            let parameter = |(name, ty): (&str, &Type)| format!("{name}: {}", format_type(&resolve, ty));
            let parameters: Vec<String> =
                function.params.iter().map(|param| parameter((&param.name, &param.ty))).collect();
            let result = function.result.as_ref().map(|ty| format!(" -> {}", format_type(&resolve, ty)));
            let result = result.unwrap_or_default();
            write!(page, "- `{name}({}){result}`", parameters.join(", ")).unwrap();
            page.push_str(&description(&function.docs));
        }
        if !interface.functions.is_empty() {
            page.push('\n');
        }
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn types(page: &mut String, resolve: &Resolve, interface: &Interface) {
    for (name, id) in &interface.types {
        let ty = &resolve.types[*id];
        let (kind, members): (&str, Vec<(String, &Docs)>) = match &ty.kind {
            TypeDefKind::Record(record) => (
                "record",
                record
                    .fields
                    .iter()
                    .map(|field| {
                        (format!("{}: {}", field.name, format_type(resolve, &field.ty)), &field.docs)
                    })
                    .collect(),
            ),
            TypeDefKind::Enum(one) => {
                ("enum", one.cases.iter().map(|case| (case.name.clone(), &case.docs)).collect())
            }
            TypeDefKind::Variant(variant) => {
                let format_case = |case: &wit_parser::Case| match &case.ty {
                    Some(ty) => format!("{}({})", case.name, format_type(resolve, ty)),
                    None => case.name.clone(),
                };
                ("variant", variant.cases.iter().map(|case| (format_case(case), &case.docs)).collect())
            }
            // Types of other interfaces are described there.
            _ => continue,
        };
        write!(page, "{kind} `{name}`{}", description(&ty.docs)).unwrap();
        page.push('\n');
        for (member, docs) in members {
            write!(page, "- `{member}`{}", description(docs)).unwrap();
        }
        page.push('\n');
    }
}

fn paragraph(page: &mut String, docs: &Docs) {
    let Some(text) = &docs.contents else { return };
    // Section headings between interfaces are not part of the documentation.
    let about = match text.rsplit_once("---\n") {
        Some((_, rest)) => rest.split_once('\n').map_or("", |(_heading, rest)| rest),
        None => text,
    };
    write!(page, "{}\n\n", about.trim()).unwrap();
}

fn description(docs: &Docs) -> String {
    match &docs.contents {
        Some(text) => format!(": {}\n", text.split_whitespace().collect::<Vec<_>>().join(" ")),
        None => "\n".to_owned(),
    }
}

fn format_type(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Id(id) => format_type_id(resolve, *id),
        Type::String => "string".into(),
        Type::Bool => "bool".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn format_type_id(resolve: &Resolve, id: TypeId) -> String {
    let ty = &resolve.types[id];
    if let Some(name) = &ty.name {
        return name.clone();
    }
    let optional =
        |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| format_type(resolve, ty));
    match &ty.kind {
        TypeDefKind::List(ty) => format!("list<{}>", format_type(resolve, ty)),
        TypeDefKind::Option(ty) => format!("option<{}>", format_type(resolve, ty)),
        TypeDefKind::Result(result) => format!("result<{}, {}>", optional(&result.ok), optional(&result.err)),
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<String> = tuple.types.iter().map(|ty| format_type(resolve, ty)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        other => format!("{other:?}"),
    }
}
