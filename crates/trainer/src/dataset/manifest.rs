use std::{collections::HashMap, path::Path};

use serde::Deserialize;

/// File beside the replays that says, among other things, each one's licence.
pub const MANIFEST_NAME: &str = "MANIFEST.csv";
/// Licences under which a world that is shipped may be trained.
pub const PERMISSIVE: [&str; 3] = ["Apache-2.0", "ISC", "MIT"];

/// Which replays may be used, by the licence of their source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Licences {
    /// Every replay: for experiments and for one's own.
    #[default]
    Any,
    /// Only those whose manifest row names one of these.
    Only(Vec<String>),
}

impl Licences {
    /// Only [`PERMISSIVE`] ones.
    pub fn permissive() -> Self {
        Self::Only(PERMISSIVE.map(str::to_owned).to_vec())
    }

    /// Whether a replay under `licence` (empty: none stated) may be used.
    pub fn allow(&self, licence: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(allowed) => allowed.iter().any(|one| one == licence),
        }
    }
}

#[derive(Deserialize)]
struct Row {
    file: String,
    licence: String,
}

/// Licence by file name, from the manifest in `folder`; empty if there is none.
pub(super) fn read(folder: &Path) -> Result<HashMap<String, String>, csv::Error> {
    let path = folder.join(MANIFEST_NAME);
    if !path.is_file() {
        return Ok(HashMap::new());
    }
    let mut rows = csv::Reader::from_path(path)?;
    rows.deserialize()
        .map(|row: Result<Row, _>| row.map(|row| (row.file, row.licence)))
        .collect()
}
