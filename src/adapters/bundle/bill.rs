//! The bill of materials: which packages the images of a bundle hold, for whoever asks where a hole is.
//!
//! A crate's packing list is not written by who packs it but copied from the boxes: a package manager
//! keeps a list in every image, and the topmost layer that has one has the last word.
//!
//! ```text
//!   each layer ─▶ Goods: lists of packages, the system's name, what it takes away
//!   an image's layers, the lowest first, laid over each other ─▶ its packages ─▶ CycloneDX 1.6, JSON
//! ```
//! The limits: what dpkg (Debian, Ubuntu, distroless) and apk (Alpine) have installed is listed. A program
//! that was copied in beside them is on no list; a database of rpm is not read, and the bill says so.
//!
//! <https://cyclonedx.org/docs/1.6/json/>, <https://github.com/package-url/purl-spec>

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use packageurl::PackageUrl;
use serde_json::{Value, json};

use super::index::Index;
use crate::adapters::images::archive;
use crate::adapters::images::layout::{self, Image};
use crate::kinds::image::{Reference, Version};

/// Debian's list of some thousand packages takes 3 MB.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// How many files of one package each distroless images may have, and layers may take away.
const FILES_MAX: usize = 100_000;

const DPKG: &str = "var/lib/dpkg/status";
/// Distroless images have a file for each package.
const DPKG_EACH: &str = "var/lib/dpkg/status.d/";
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
/// The second is what the first is a link to.
const SYSTEM: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
const RPM: [&str; 2] = ["var/lib/rpm/", "usr/lib/sysimage/rpm/"];
/// Layers take a file away by one of its name with this before it, and a directory's content by the other.
const GONE: &str = ".wh.";
const ALL_GONE: &str = ".wh..wh..opq";

/// What is known of the images by their layers.
#[derive(Default)]
pub(super) struct Reader {
    layers: BTreeMap<String, Goods>,
}

/// What a layer says of packages, or an image when its layers are laid over each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Goods {
    /// Lists, by their paths.
    files: BTreeMap<String, Vec<u8>>,
    /// Paths that are taken away, with everything below them.
    gone: BTreeSet<String>,
    /// Directories of which everything below is taken away.
    emptied: BTreeSet<String>,
}

/// A package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    architecture: String,
    /// What it was built from, if it is called otherwise.
    source: Option<String>,
    license: Option<String>,
}

impl Reader {
    /// An image's component, by the layers that lie in a store.
    pub(super) fn image(
        &mut self,
        store: &Path,
        name: &Reference,
        image: &Image,
    ) -> Result<Value, String> {
        let mut whole = Goods::default();
        for layer in &image.layers {
            if !self.layers.contains_key(&layer.path) {
                let path = store.join(&layer.path);
                let said = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
                let file = std::fs::File::open(&path).map_err(|error| said(&error))?;
                let content = archive::unpacked(file).map_err(|error| said(&error))?;
                let goods = Goods::read(content).map_err(|why| said(&why))?;
                self.layers.insert(layer.path.clone(), goods);
            }
            if let Some(goods) = self.layers.get(&layer.path) {
                whole.lay(goods);
            }
        }
        component(name, image, &whole)
    }
}

/// The whole bill.
pub(super) fn document(index: &Index, images: &[Value]) -> Value {
    let refs: Vec<&Value> = images.iter().map(|image| &image["bom-ref"]).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": index.created,
            "tools": {"components": [{
                "type": "application", "name": "windlass", "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": {
                "type": "application", "bom-ref": "bundle",
                "name": index.branch, "version": index.commit,
            },
        },
        "components": images,
        "dependencies": [{"ref": "bundle", "dependsOn": refs}],
    })
}

impl Goods {
    fn read(layer: impl Read) -> Result<Self, String> {
        let mut goods = Self::default();
        let mut archive = tar::Archive::new(layer);
        let said = |error: std::io::Error| format!("it is no layer: {error}");
        for entry in archive.entries().map_err(said)? {
            let mut entry = entry.map_err(said)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(path) = layout::clean(path.trim_start_matches('/')) else { continue };
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ALL_GONE {
                goods.emptied.insert(folder.to_owned());
            } else if let Some(name) = name.strip_prefix(GONE) {
                goods.gone.insert(format!("{folder}/{name}").trim_start_matches('/').to_owned());
            } else if is_list(&path) && entry.header().entry_type() == tar::EntryType::Regular {
                let mut text = Vec::new();
                if !is_rpm(&path) {
                    let mut list = (&mut entry).take(LIST_BYTES_MAX + 1);
                    list.read_to_end(&mut text).map_err(|error| format!("{path}: {error}"))?;
                }
                if text.len() as u64 > LIST_BYTES_MAX {
                    return Err(format!("{path} is longer than any list of packages"));
                }
                goods.files.insert(path, text);
            }
            if goods.files.len() + goods.gone.len() + goods.emptied.len() > FILES_MAX {
                return Err("it has too many lists of packages".into());
            }
        }
        Ok(goods)
    }

    /// Lays a layer over what is there.
    fn lay(&mut self, upper: &Self) {
        let is_below = |path: &str, folder: &str| {
            folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        self.files.retain(|path, _| {
            let mut gone = upper.gone.iter();
            let mut emptied = upper.emptied.iter();
            !gone.any(|gone| path == gone || is_below(path, gone))
                && !emptied.any(|folder| is_below(path, folder))
        });
        self.files.extend(upper.files.clone());
    }

    fn text(&self, path: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.files.get(path).map(|text| String::from_utf8_lossy(text))
    }

    /// The system's id and version, as `/etc/os-release` has them.
    fn system(&self) -> (Option<String>, Option<String>) {
        let text = SYSTEM.iter().find_map(|path| self.text(path)).unwrap_or_default();
        let value = |key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            let found = pairs.find(|(name, _)| *name == key)?.1.trim().trim_matches(['"', '\'']);
            (!found.is_empty()).then(|| found.to_owned())
        };
        (value("ID"), value("VERSION_ID"))
    }

    fn of_dpkg(&self) -> Vec<Package> {
        let each = self.files.keys().filter(|path| path.starts_with(DPKG_EACH));
        let lists = each.map(String::as_str).chain([DPKG]);
        let mut found = Vec::new();
        for text in lists.filter_map(|path| self.text(path)) {
            found.extend(text.split("\n\n").filter_map(of_dpkg));
        }
        found
    }

    fn of_apk(&self) -> Vec<Package> {
        let mut found = Vec::new();
        for text in APK.iter().filter_map(|path| self.text(path)) {
            found.extend(text.split("\n\n").filter_map(of_apk));
        }
        found
    }
}

fn is_rpm(path: &str) -> bool {
    RPM.iter().any(|folder| path.starts_with(folder))
}

fn is_list(path: &str) -> bool {
    // Distroless images have sums beside the lists.
    let is_one = path.strip_prefix(DPKG_EACH).is_some_and(|name| !name.ends_with(".md5sums"));
    is_one || path == DPKG || APK.contains(&path) || SYSTEM.contains(&path) || is_rpm(path)
}

/// An entry of dpkg's list, if it is installed. <https://manpages.debian.org/dpkg-query>
fn of_dpkg(entry: &str) -> Option<Package> {
    let field = |name: &str| {
        let mut lines = entry.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
    };
    // What was removed and not purged stays on the list. Distroless lists have no such field.
    let is_installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
    let package = Package {
        name: field("Package").filter(|_| is_installed)?,
        version: field("Version")?,
        architecture: field("Architecture").unwrap_or_default(),
        // `glibc (2.36-9)` where the versions differ.
        source: field("Source").map(|source| match source.split_once(" (") {
            Some((name, version)) => format!("{name}@{}", version.trim_end_matches(')')),
            None => source,
        }),
        license: None,
    };
    Some(package)
}

/// An entry of apk's list. <https://wiki.alpinelinux.org/wiki/Apk_spec>
fn of_apk(entry: &str) -> Option<Package> {
    let field = |name: char| {
        let mut lines = entry.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.chars().eq([name]))?.1;
        (!found.is_empty()).then(|| found.to_owned())
    };
    let name = field('P')?;
    let source = field('o').filter(|source| *source != name);
    Some(Package {
        version: field('V')?,
        architecture: field('A').unwrap_or_default(),
        license: field('L'),
        source,
        name,
    })
}

fn component(name: &Reference, image: &Image, goods: &Goods) -> Result<Value, String> {
    let said = |error: packageurl::Error| format!("{name}: {error}");
    let manifest = image.digests.first().ok_or_else(|| format!("{name} has no manifest"))?;
    let short = name.path.rsplit('/').next().unwrap_or(&name.path);
    let mut url = PackageUrl::new("oci", short.to_owned()).map_err(said)?;
    url.with_version(manifest.prefixed()).map_err(said)?;
    url.add_qualifier("repository_url", name.repository()).map_err(said)?;
    if let Version::Tag(tag) = &name.version {
        url.add_qualifier("tag", tag.clone()).map_err(said)?;
    }
    let own = url.to_string();
    let (id, release) = goods.system();
    let mut inside = Vec::new();
    if let Some(id) = &id {
        let mut system = json!({
            "type": "operating-system", "bom-ref": format!("{own}#os"), "name": id,
        });
        if let Some(release) = &release {
            system["version"] = json!(release);
        }
        inside.push(system);
    }
    let kinds = [("deb", "debian", goods.of_dpkg()), ("apk", "alpine", goods.of_apk())];
    let mut packages = BTreeMap::new();
    for (kind, namespace, found) in kinds {
        let namespace = id.as_deref().unwrap_or(namespace);
        let distro = release.as_ref().map(|release| format!("{namespace}-{release}"));
        for package in found {
            let url = package.url(kind, namespace, distro.as_deref()).map_err(said)?;
            packages.insert(url, package);
        }
    }
    inside.extend(packages.iter().map(|(url, package)| package.component(&own, url)));
    let mut image = json!({
        "type": "container", "bom-ref": own,
        "name": name.repository(), "version": name.version_text(), "purl": own,
        "hashes": [{"alg": "SHA-256", "content": manifest.to_string()}],
        "components": inside,
    });
    if goods.files.keys().any(|path| is_rpm(path)) {
        let name = "windlass:unread";
        image["properties"] = json!([{"name": name, "value": "packages that rpm has installed"}]);
    }
    Ok(image)
}

impl Package {
    fn url(
        &self,
        kind: &'static str,
        namespace: &str,
        distro: Option<&str>,
    ) -> Result<String, packageurl::Error> {
        let mut url = PackageUrl::new(kind, self.name.clone())?;
        url.with_namespace(namespace.to_owned())?.with_version(self.version.clone())?;
        let architecture = Some(self.architecture.as_str()).filter(|name| !name.is_empty());
        // By `upstream`, scanners find what is reported of the source.
        let all =
            [("arch", architecture), ("distro", distro), ("upstream", self.source.as_deref())];
        for (key, value) in all {
            if let Some(value) = value {
                url.add_qualifier(key, value.to_owned())?;
            }
        }
        Ok(url.to_string())
    }

    fn component(&self, image: &str, url: &str) -> Value {
        let mut said = json!({
            // One package of two images is twice in the bill.
            "type": "library", "bom-ref": format!("{image}#{url}"),
            "name": self.name, "version": self.version, "purl": url,
        });
        if let Some(license) = &self.license {
            said["licenses"] = json!([{"license": {"name": license}}]);
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::digest::Digest;

    fn layer(files: &[(&str, &str)]) -> Goods {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes()).expect("appended");
        }
        Goods::read(&*tar.into_inner().expect("a tar")).expect("a layer")
    }

    fn laid(layers: &[Goods]) -> Goods {
        let mut whole = Goods::default();
        layers.iter().for_each(|layer| whole.lay(layer));
        whole
    }

    fn bill(goods: &Goods) -> Value {
        let image = Image {
            names: Vec::new(),
            digests: vec![Digest::of(b"manifest")],
            config: Digest::of(b"config"),
            config_path: String::new(),
            layers: Vec::new(),
        };
        let name = Reference::parse("shop/api:1.2").expect("a name");
        component(&name, &image, goods).expect("a component")
    }

    fn urls(goods: &Goods) -> Vec<String> {
        let bill = bill(goods);
        let inside = bill["components"].as_array().expect("components").iter();
        inside.filter_map(|one| one["purl"].as_str().map(str::to_owned)).collect()
    }

    const STATUS: &str = "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\n\
        Source: openssl (3.0.15-1)\nVersion: 3.0.15-1~deb12u1\nDescription: a\n long: one\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
        Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 12.4+deb12u9\n";
    const RELEASE: &str = "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"12\"\n";

    #[test]
    fn what_dpkg_has_installed_is_listed() {
        let goods = layer(&[("./var/lib/dpkg/status", STATUS), ("usr/lib/os-release", RELEASE)]);
        assert_eq!(
            urls(&goods),
            [
                "pkg:deb/debian/base-files@12.4%2Bdeb12u9?arch=amd64&distro=debian-12",
                "pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64&distro=debian-12&upstream=openssl%403.0.15-1",
            ]
        );
        let bill = bill(&goods);
        assert_eq!(bill["components"][0]["name"], "debian");
        assert_eq!(bill["name"], "docker.io/shop/api");
        assert_eq!(bill["hashes"][0]["content"], Digest::of(b"manifest").to_string());
        assert_eq!(bill["properties"], Value::Null);
    }

    #[test]
    fn distroless_images_and_alpine_have_lists_of_their_own() {
        let each = "Package: tzdata\nVersion: 2026a-0\nArchitecture: all\n";
        let goods = layer(&[
            ("var/lib/dpkg/status.d/tzdata", each),
            ("var/lib/dpkg/status.d/tzdata.md5sums", "Package: no\nVersion: 1\n"),
        ]);
        assert_eq!(urls(&goods), ["pkg:deb/debian/tzdata@2026a-0?arch=all"]);
        let list = "C:Q1\nP:musl\nV:1.2.5-r9\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld.so\n\n\
            P:libcrypto3\nV:3.5.1-r0\nA:x86_64\nL:Apache-2.0\no:openssl\n\n";
        let goods = layer(&[
            ("lib/apk/db/installed", list),
            ("etc/os-release", "ID=alpine\nVERSION_ID=3.22.1\n"),
        ]);
        assert_eq!(
            urls(&goods),
            [
                "pkg:apk/alpine/libcrypto3@3.5.1-r0?arch=x86_64&distro=alpine-3.22.1&upstream=openssl",
                "pkg:apk/alpine/musl@1.2.5-r9?arch=x86_64&distro=alpine-3.22.1",
            ]
        );
        assert_eq!(bill(&goods)["components"][1]["licenses"][0]["license"]["name"], "Apache-2.0");
    }

    #[test]
    fn the_upper_layer_has_the_last_word() {
        let lower = layer(&[
            ("var/lib/dpkg/status", STATUS),
            ("lib/apk/db/installed", "P:musl\nV:1\n"),
            ("etc/os-release", "ID=old\n"),
        ]);
        let newer = layer(&[("var/lib/dpkg/status", "Package: new\nVersion: 2\n")]);
        let all = ["pkg:apk/old/musl@1", "pkg:deb/old/new@2"];
        assert_eq!(urls(&laid(&[lower.clone(), newer])), all);
        let cases: [(&str, &[&str]); 5] = [
            ("lib/apk/.wh.db", &["pkg:deb/old/base-files@12.4%2Bdeb12u9?arch=amd64"]),
            ("lib/apk/db/.wh.installed", &["pkg:deb/old/base-files@12.4%2Bdeb12u9?arch=amd64"]),
            ("lib/.wh..wh..opq", &["pkg:deb/old/base-files@12.4%2Bdeb12u9?arch=amd64"]),
            (".wh.var", &["pkg:apk/old/musl@1"]),
            (".wh..wh..opq", &[]),
        ];
        for (path, first) in cases {
            let left = urls(&laid(&[lower.clone(), layer(&[(path, "")])]));
            assert_eq!(left.first().map(String::as_str), first.first().copied(), "{path}");
        }
        // What only begins alike stays.
        let beside = layer(&[("var/li/.wh.b", ""), ("li/.wh..wh..opq", "")]);
        assert_eq!(laid(&[lower.clone(), beside]).files, lower.files);
    }

    #[test]
    fn what_is_not_read_is_said() {
        let goods = layer(&[("var/lib/rpm/rpmdb.sqlite", "SQLite")]);
        assert_eq!(bill(&goods)["properties"][0]["name"], "windlass:unread");
        assert!(
            Goods::read(&b"no tar at all, and long enough to be a header".repeat(20)[..]).is_err()
        );
    }
}
