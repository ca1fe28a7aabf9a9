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
        as_json_schema(&mut root);
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
        let mut wrong = Vec::new();
        for parameter in
            [&item["parameters"], &operation["parameters"]].into_iter().filter_map(Value::as_array).flatten()
        {
            match self.resolve(parameter) {
                Ok(parameter) if parameter["required"] == true && parameter["in"] != "path" => {
                    wrong.push(format!(
                        "the {} parameter {} is required and not known here",
                        parameter["in"], parameter["name"]
                    ));
                }
                Ok(_) => {}
                Err(why) => wrong.push(why),
            }
        }
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

    fn resolve<'a>(&'a self, mut value: &'a Value) -> Result<&'a Value, String> {
        for _ in 0..HOPS_MAX {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
            let Some(pointer) = reference.strip_prefix('#') else {
                return Err(format!("'{reference}' leads out of the document"));
            };
            value = self.root.pointer(pointer).ok_or_else(|| format!("'{reference}' leads nowhere"))?;
        }
        Err(format!("more than {HOPS_MAX} references lead to one another"))
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
/// requests where a property is `readOnly`.
fn as_json_schema(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(as_json_schema),
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
                name.as_str().is_some_and(|name| properties[name]["readOnly"] == true)
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
            object.values_mut().for_each(as_json_schema);
        }
        _ => {}
    }
}
