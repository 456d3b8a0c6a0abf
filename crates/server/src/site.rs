//! The site's files, read once into memory: nothing outside its folder can be asked for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};

use crate::error::ApiError;
use crate::limits::MAX_SITE_BYTES;

const NO_SITE: &str = "<!doctype html><title>Worldline</title><p>The arcade runs, but its site is not \
built. Run <code>cargo xtask play</code>, or give the folder of the built site with <code>--site</code>. \
The API answers under <code>/api/</code>.";

/// The site, or nothing when it is not built.
#[derive(Debug, Default)]
pub struct Site {
    files: HashMap<String, (&'static str, Bytes)>,
}

/// The site's folder could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A file or folder in it.
    #[error("cannot read the site's file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no site.
    #[error("the site in {} has more than {MAX_SITE_BYTES} bytes: is this the right folder?", .0.display())]
    TooLarge(PathBuf),
}

impl Site {
    /// Reads all files under `folder`; a missing folder is a site that is not built.
    pub fn load(folder: &Path) -> Result<Self, SiteError> {
        let (mut site, mut total) = (Self::default(), 0);
        if folder.is_dir() {
            site.add(folder, "", &mut total)?;
        }
        Ok(site)
    }

    /// Whether there is anything to show.
    pub fn is_built(&self) -> bool {
        self.files.contains_key("/index.html")
    }

    fn add(&mut self, folder: &Path, prefix: &str, total: &mut u64) -> Result<(), SiteError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| SiteError::Io { path, source }
        };
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let address = format!("{prefix}/{name}");
            if path.is_dir() {
                self.add(&path, &address, total)?;
                continue;
            }
            *total += fs::metadata(&path).map_err(failed(&path))?.len();
            if *total > MAX_SITE_BYTES {
                return Err(SiteError::TooLarge(folder.into()));
            }
            let bytes = fs::read(&path).map_err(failed(&path))?;
            self.files
                .insert(address, (content_type(name), bytes.into()));
        }
        Ok(())
    }

    /// Answers a request for a file; `/` is the index.
    pub(crate) fn get(&self, path: &str) -> Response {
        let path = if path == "/" { "/index.html" } else { path };
        match self.files.get(path) {
            Some((kind, bytes)) => {
                // Vite puts a hash of the content into the names of assets.
                let cache = if path.starts_with("/assets/") {
                    "max-age=31536000, immutable"
                } else {
                    "no-cache"
                };
                (
                    [(CONTENT_TYPE, *kind), (CACHE_CONTROL, cache)],
                    bytes.clone(),
                )
                    .into_response()
            }
            None if path == "/index.html" => Html(NO_SITE).into_response(),
            None => ApiError::not_found().into_response(),
        }
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" | "webmanifest" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[test]
    fn serves_what_is_in_the_folder_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("assets")).unwrap();
        fs::write(folder.path().join("index.html"), "<p>").unwrap();
        fs::write(folder.path().join("assets/app.js"), "1").unwrap();
        let site = Site::load(folder.path()).unwrap();
        assert!(site.is_built());
        assert_eq!(site.get("/").status(), StatusCode::OK);
        let script = site.get("/assets/app.js");
        assert_eq!(
            script.headers()[CONTENT_TYPE],
            "text/javascript; charset=utf-8"
        );
        for path in ["/../Cargo.toml", "//etc/passwd", "/assets", "/assets/"] {
            assert_eq!(site.get(path).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn a_missing_site_says_what_to_do() {
        let site = Site::load(Path::new("does/not/exist")).unwrap();
        assert!(!site.is_built());
        assert_eq!(site.get("/").status(), StatusCode::OK);
    }
}
