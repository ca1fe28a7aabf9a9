//! Just enough of OpenAPI 3: the operations of a document, their references within it, and the JSON Schema of
//! their bodies.

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// References that lead to references.
const HOPS_MAX: usize = 32;

/// A document, its schemas turned into those that a JSON Schema validator means by them.
pub struct Document {
    root: Value,
    draft: Draft,
}

/// A POST operation.
pub struct Operation {
    /// As the document writes it.
    pub path: String,
    pub validator: Validator,
}

impl Document {
    /// Reads YAML or JSON; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut root: Value =
            serde_saphyr::from_str(text).map_err(|why| format!("it is neither YAML nor JSON: {}", first_line(&why)))?;
        let version = root["openapi"].as_str().unwrap_or("").to_owned();
        let draft = match version.split('.').take(2).collect::<Vec<_>>().as_slice() {
            ["3", "0"] => Draft::Draft4,
            ["3", "1"] => Draft::Draft202012,
            _ => return Err(format!("'openapi: {version}' is none of 3.0 and 3.1")),
        };
        if !root["paths"].is_object() {
            return Err("it has no 'paths'".to_owned());
        }
        let meant = root.clone();
        as_json_schema(&mut root, &meant);
        Ok(Self { root, draft })
    }

    /// The POST operation whose path has this form, whatever its parameters are called; everything about it that
    /// we cannot serve.
    pub fn post(&self, path: &str, with_token: bool) -> Result<Operation, Vec<String>> {
        let paths = self.root["paths"].as_object().into_iter().flatten();
        let form = form_of(path);
        let Some((name, item)) = paths.into_iter().find(|(name, _)| form_of(name) == form) else {
            return Err(vec!["there is no such path".to_owned()]);
        };
        let item = self.resolve(item).map_err(|why| vec![why])?;
        let Some(operation) = item.get("post") else {
            return Err(vec!["the path takes no POST".to_owned()]);
        };
        let mut wrong = self.parameters(item, operation);
        wrong.extend(self.security(operation, with_token).err());
        match self.validator(operation) {
            Ok(validator) if wrong.is_empty() => Ok(Operation { path: name.clone(), validator }),
            Ok(_) => Err(wrong),
            Err(why) => {
                wrong.push(why);
                Err(wrong)
            }
        }
    }

    /// What parameters ask for that we cannot give. One of the operation stands in place of the path's of that name.
    fn parameters(&self, item: &Value, operation: &Value) -> Vec<String> {
        let (mut wrong, mut asked): (Vec<String>, Vec<&Value>) = Default::default();
        let lists = [&item["parameters"], &operation["parameters"]];
        for parameter in lists.into_iter().filter_map(Value::as_array).flatten() {
            match self.resolve(parameter) {
                Ok(parameter) => {
                    asked.retain(|other| other["in"] != parameter["in"] || other["name"] != parameter["name"]);
                    asked.push(parameter);
                }
                Err(why) => wrong.push(why),
            }
        }
        let unknown = asked.into_iter().filter(|parameter| parameter["required"] == true && !is_given(parameter));
        wrong.extend(unknown.map(|parameter| {
            format!("the {} parameter {} is required and not known here", parameter["in"], parameter["name"])
        }));
        wrong
    }

    /// The schema of the JSON body. Its references stay as they are: they lead into the document around it.
    fn validator(&self, operation: &Value) -> Result<Validator, String> {
        let Some(body) = operation.get("requestBody") else {
            return Err("it takes no body".to_owned());
        };
        let content = self.resolve(body)?["content"].as_object().into_iter().flatten();
        let is_json = |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
        let Some((_, media)) = content.into_iter().find(|(kind, _)| is_json(kind)) else {
            return Err("it takes no body of application/json".to_owned());
        };
        let schema = media.get("schema").cloned().unwrap_or(json!({}));
        let root = json!({
            "components": self.root["components"],
            "paths": self.root["paths"],
            "allOf": [schema],
        });
        let options = jsonschema::options().with_draft(self.draft).should_validate_formats(true).offline();
        options.build(&root).map_err(|why| format!("its schema cannot be used: {why}"))
    }

    /// Whether what the operation wants of who calls it can be given: nothing, or a bearer token that is there.
    fn security(&self, operation: &Value, with_token: bool) -> Result<(), String> {
        let wanted = operation.get("security").or(self.root.get("security"));
        let ways: Vec<&Map<String, Value>> =
            wanted.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect();
        let is_bearer = |name: &String| {
            let scheme =
                self.root["components"]["securitySchemes"].get(name).and_then(|scheme| self.resolve(scheme).ok());
            scheme.is_some_and(|scheme| match scheme["type"].as_str() {
                Some("http") => scheme["scheme"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("bearer")),
                kind => matches!(kind, Some("oauth2" | "openIdConnect")),
            })
        };
        if ways.is_empty() || ways.iter().any(|way| way.is_empty()) {
            return Ok(());
        }
        match ways.iter().any(|way| way.keys().all(is_bearer)) {
            true if with_token => Ok(()),
            true => Err("it wants a bearer token: --governance-token-file".to_owned()),
            false => Err("it wants another proof of identity than a bearer token".to_owned()),
        }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> Result<&'a Value, String> {
        resolve(&self.root, value)
    }
}

/// What a value is where it is a reference within the document.
fn resolve<'a>(root: &'a Value, mut value: &'a Value) -> Result<&'a Value, String> {
    for _ in 0..HOPS_MAX {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
        let Some(pointer) = reference.strip_prefix('#') else {
            return Err(format!("'{reference}' leads out of the document"));
        };
        value = root.pointer(pointer).ok_or_else(|| format!("'{reference}' leads nowhere"))?;
    }
    Err(format!("more than {HOPS_MAX} references lead to one another"))
}

/// The path's, and headers whose parameters OpenAPI 3 has ignored: their place is `security` and `content`.
fn is_given(parameter: &Value) -> bool {
    let ignored = ["Accept", "Authorization", "Content-Type"];
    match (parameter["in"].as_str(), parameter["name"].as_str()) {
        (Some("path"), _) => true,
        (Some("header"), Some(name)) => ignored.iter().any(|header| header.eq_ignore_ascii_case(name)),
        _ => false,
    }
}

/// Without the snippet of the document that follows it.
fn first_line(why: &serde_saphyr::Error) -> String {
    why.to_string().lines().next().unwrap_or_default().to_owned()
}

/// `/v1/runs/{id}/close` and `/v1/runs/{run_id}/close` have one form.
fn form_of(path: &str) -> Vec<&str> {
    let bare = |part| if is_parameter(part) { "{}" } else { part };
    path.trim_end_matches('/').split('/').map(bare).collect()
}

pub fn is_parameter(part: &str) -> bool {
    part.starts_with('{') && part.ends_with('}')
}

/// OpenAPI's own words for what JSON Schema says otherwise: `nullable`, and `required` that is not meant for
/// requests where a property, or what it refers to in `root`, is `readOnly`.
fn as_json_schema(value: &mut Value, root: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| as_json_schema(item, root)),
        Value::Object(object) => {
            if object.get("nullable") == Some(&Value::Bool(true)) {
                let kind = object.get("type").and_then(Value::as_str).map(str::to_owned);
                if let Some(kind) = kind {
                    object.insert("type".to_owned(), json!([kind, "null"]));
                }
                if let Some(Value::Array(options)) = object.get_mut("enum") {
                    options.push(Value::Null);
                }
            }
            let is_read_only = |properties: &Value, name: &Value| {
                let Some(property) = name.as_str().and_then(|name| properties.get(name)) else { return false };
                let referred = resolve(root, property);
                property["readOnly"] == true || referred.is_ok_and(|referred| referred["readOnly"] == true)
            };
            if let (Some(properties), Some(Value::Array(mut required))) =
                (object.get("properties").cloned(), object.get("required").cloned())
            {
                required.retain(|name| !is_read_only(&properties, name));
                match required.is_empty() {
                    // Draft 4 has no empty list.
                    true => object.remove("required"),
                    false => object.insert("required".to_owned(), Value::Array(required)),
                };
            }
            object.values_mut().for_each(|value| as_json_schema(value, root));
        }
        _ => {}
    }
}
