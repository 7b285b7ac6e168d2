//! Who may import whom: between crates (from their manifests) and inside the engine.

use super::sources::Source;
use crate::project::Project;
use anyhow::{Context, Result};

/// What a crate may never depend on, and why. Development dependencies are free.
struct Ban {
    member: &'static str,
    /// Beginning of a dependency's name.
    never: &'static [&'static str],
    why: &'static str,
}

const BANS: [Ban; 12] = [
    Ban {
        member: "meetara-format",
        never: &[
            "meetara-",
            "burn",
            "candle",
            "tokio",
            "wgpu",
            "wasm-bindgen",
            "js-sys",
            "web-sys",
        ],
        why: "format is the lowest layer: bytes and nothing else",
    },
    Ban {
        member: "meetara-kernels",
        never: &["meetara-engine", "burn", "candle", "rayon", "wasm-bindgen"],
        why: "kernels know the bytes of a block, and nothing of the layers above",
    },
    Ban {
        member: "meetara-engine",
        never: &[
            "meetara-api",
            "meetara-browser",
            "meetara-component",
            "meetara-edge",
            "meetara-host",
            "meetara-train",
            "burn",
            "candle",
            "tokio",
            "wgpu",
            "wasm-bindgen",
            "js-sys",
            "web-sys",
            "rayon",
            "rand",
        ],
        why: "the engine does no I/O, knows no JS values and starts no threads",
    },
    Ban {
        member: "meetara-browser",
        never: &[
            "burn",
            "candle",
            "tokio",
            "axum",
            "worker",
            "meetara-api",
            "meetara-host",
            "meetara-train",
        ],
        why: "the browser binding knows the engine only",
    },
    Ban {
        member: "meetara-constraint",
        never: &["meetara-", "wasm-bindgen", "js-sys", "web-sys", "tokio"],
        why: "constraints know tokens by their bytes, and no model",
    },
    Ban {
        member: "meetara-browser-constraint",
        never: &["meetara-engine", "meetara-browser", "meetara-host"],
        why: "the page's module for schemas goes beside any build of the engine",
    },
    Ban {
        member: "meetara-gpu",
        never: &[
            "meetara-browser",
            "meetara-component",
            "meetara-host",
            "meetara-train",
            "burn",
            "candle",
            "tokio",
            "wasm-bindgen",
            "js-sys",
            "web-sys",
        ],
        why: "the GPU back end knows the engine and wgpu, and no JS values",
    },
    Ban {
        member: "meetara-component",
        never: &[
            "wasm-bindgen",
            "js-sys",
            "web-sys",
            "burn",
            "candle",
            "tokio",
            "meetara-host",
            "meetara-train",
        ],
        why: "the component knows the engine only, and no JS values",
    },
    Ban {
        member: "meetara-edge",
        never: &[
            "burn",
            "candle",
            "tokio",
            "axum",
            "meetara-host",
            "meetara-train",
            "meetara-browser",
        ],
        why: "the worker knows the engine and the API's shapes",
    },
    Ban {
        member: "meetara-host",
        never: &[
            "meetara-engine",
            "meetara-format",
            "burn",
            "candle",
            "meetara-train",
        ],
        why: "the server knows the component's interface, never the engine",
    },
    Ban {
        member: "meetara-api",
        never: &[
            "meetara-",
            "tokio",
            "axum",
            "hyper",
            "worker",
            "wasm-bindgen",
        ],
        why: "the API's shapes do no I/O, so that both hosts can use them",
    },
    Ban {
        member: "meetara-train",
        never: &[
            "meetara-browser",
            "meetara-component",
            "meetara-edge",
            "meetara-host",
            "axum",
        ],
        why: "the trainer knows format and engine, no binding and no host",
    },
];

/// Faults in the members' manifests.
pub fn crates(project: &Project) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for member in &project.members {
        let text = std::fs::read_to_string(&member.manifest_path)
            .with_context(|| format!("cannot read {}", member.manifest_path.display()))?;
        let manifest: toml::Table = toml::from_str(&text)
            .with_context(|| format!("cannot read {}", member.manifest_path.display()))?;
        for ban in BANS.iter().filter(|ban| ban.member == member.name) {
            for dependency in dependencies(&manifest) {
                if ban.never.iter().any(|never| dependency.starts_with(never)) {
                    let manifest = project.show(&member.manifest_path);
                    faults.push(format!(
                        "{manifest}: must not depend on {dependency}: {}",
                        ban.why
                    ));
                }
            }
        }
    }
    Ok(faults)
}

/// Names under `[dependencies]`, also those for one target only.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut tables: Vec<&toml::Table> = manifest
        .get("dependencies")
        .and_then(|t| t.as_table())
        .into_iter()
        .collect();
    for target in manifest
        .get("target")
        .and_then(|t| t.as_table())
        .into_iter()
        .flat_map(|t| t.values())
    {
        tables.extend(target.get("dependencies").and_then(|t| t.as_table()));
    }
    tables
        .into_iter()
        .flat_map(|table| table.keys().cloned())
        .collect()
}

/// Inside the engine: a module, and the modules of the same crate that it must not know.
const MODULES: [(&str, &[&str]); 3] = [
    (
        "nn",
        &[
            "model",
            "generate",
            "tokenizer",
            "template",
            "route",
            "emotion",
            "voice",
        ],
    ),
    (
        "tokenizer",
        &["model", "nn", "kernels", "generate", "emotion", "voice"],
    ),
    ("model", &["generate", "emotion", "voice", "route"]),
];

/// Faults in one file of the engine.
pub fn modules(source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix("runtime-wasm/engine/src/") else {
        return Vec::new();
    };
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    let Some((_, never)) = MODULES.iter().find(|(name, _)| *name == module) else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    for (line, code) in source.code() {
        for other in never.iter().filter(|other| mentions(code, other)) {
            faults.push(format!(
                "{}:{line}: {module} must not import {other}",
                source.path
            ));
        }
    }
    faults
}

/// Whether a line names `crate::<module>`, alone or in braces.
fn mentions(code: &str, module: &str) -> bool {
    code.match_indices("crate::").any(|(at, prefix)| {
        let rest = code.get(at + prefix.len()..).unwrap_or_default();
        let list = rest
            .strip_prefix('{')
            .map_or(rest, |braced| braced.split('}').next().unwrap_or_default());
        let is_list = rest.starts_with('{');
        let mut names = list.split(',').map(|item| {
            item.trim()
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
        });
        if is_list {
            names.any(|name| name == Some(module))
        } else {
            names.next().flatten() == Some(module)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(path: &str, text: &str) -> usize {
        modules(&Source {
            path: path.to_owned(),
            text: text.to_owned(),
        })
        .len()
    }

    #[test]
    fn an_import_against_the_arrows_is_found() {
        let layer = "runtime-wasm/engine/src/nn/a.rs";
        assert_eq!(faults_of(layer, "use crate::model::Model;\n"), 1);
        assert_eq!(faults_of(layer, "use crate::{error::Error, model};\n"), 1);
        assert_eq!(faults_of(layer, "use crate::{error::model, kernels};\n"), 0);
        assert_eq!(
            faults_of(layer, "use crate::error::Error; // crate::model\n"),
            0
        );
        assert_eq!(
            faults_of(
                "runtime-wasm/engine/src/tokenizer/bpe.rs",
                "use crate::model::Model;\n"
            ),
            1
        );
        assert_eq!(
            faults_of(
                "runtime-wasm/engine/src/generate.rs",
                "use crate::model::Model;\n"
            ),
            0
        );
        assert_eq!(
            faults_of("host/server/src/nn.rs", "use crate::model::Model;\n"),
            0
        );
    }

    #[test]
    fn dependencies_of_one_target_count() {
        let manifest: toml::Table = toml::from_str(
            "[dependencies]\na = '1'\n[target.'cfg(unix)'.dependencies]\nb = '1'\n[dev-dependencies]\nc = '1'",
        )
        .unwrap();
        assert_eq!(dependencies(&manifest), ["a", "b"]);
    }
}
