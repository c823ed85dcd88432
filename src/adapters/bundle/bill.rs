//! Bills of materials: which packages an image of a bundle holds, for whoever asks where a hole is.
//!
//! A crate's packing list is not written by who packs it but copied from the boxes: a package manager
//! keeps a list in every image, and the topmost layer that has one has the last word.
//!
//! ```text
//!   each layer ─▶ Goods: lists of packages, the system's name, what it takes away
//!   an image's layers, the lowest first, laid over each other ─▶ its packages ─▶ CycloneDX 1.6, JSON
//! ```
//! A bill for each image, because that is what scanners know: they take what runs on one system.
//!
//! The limits: what dpkg (Debian, Ubuntu, distroless) and apk (Alpine) have installed is listed. A program
//! that was copied in beside them is on no list; a database of rpm is not read, and the bill says so.
//!
//! <https://cyclonedx.org/docs/1.6/json/>, <https://github.com/package-url/purl-spec>

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use packageurl::PackageUrl;
use serde_json::{Value, json};
use tar::EntryType;

use crate::adapters::images::sources::Taken;
use crate::adapters::images::store::Store;
use crate::adapters::images::{archive, layout};
use crate::kinds::digest::Digest;
use crate::kinds::image::{Reference, Version};

/// All lists of a layer together. Debian's of some thousand packages takes 3 MB.
const LISTS_BYTES_MAX: u64 = 64 << 20;
/// Distroless images have a list for each package.
const LISTS_MAX: usize = 10_000;
/// Of layers that images share, as much is held as is read again soon.
const HELD_BYTES_MAX: usize = 256 << 20;

const DPKG: &str = "var/lib/dpkg/status";
/// Where distroless images have a list for each package.
const DPKG_EACH: &str = "var/lib/dpkg/status.d/";
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
/// The first is as a rule a link to the second.
const SYSTEM: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
const RPM: [&str; 2] = ["var/lib/rpm/", "usr/lib/sysimage/rpm/"];
/// Layers take a file away by one of its name with this before it, and what a directory holds by the other.
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>
const GONE: &str = ".wh.";
const ALL_GONE: &str = ".wh..wh..opq";
/// The component that stands for the system.
const SYSTEM_REF: &str = "system";

/// Reads images of a store.
pub(super) struct Reader<'s> {
    store: &'s Store,
    /// By what layers are unpacked.
    held: BTreeMap<Digest, Goods>,
    held_bytes: usize,
}

/// What a layer says of packages, or an image when its layers are laid over each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Goods {
    /// By their paths.
    lists: BTreeMap<String, List>,
    /// Paths that are taken away, with everything below them.
    gone: BTreeSet<String>,
    /// Directories of which everything below is taken away.
    emptied: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum List {
    Text(Vec<u8>),
    /// It is there, and what it says is not known.
    Unread,
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

impl<'s> Reader<'s> {
    pub(super) fn new(store: &'s Store) -> Self {
        Self { store, held: BTreeMap::new(), held_bytes: 0 }
    }

    /// An image's bill. It has these names; the first counts.
    pub(super) fn bill(
        &mut self,
        names: &[&Reference],
        image: &Taken,
        created: &str,
    ) -> Result<Value, String> {
        let mut whole = Goods::default();
        for layer in self.store.layers_of(&image.entry)? {
            if let Some(goods) = self.held.get(&layer.1) {
                whole.lay(goods.clone());
                continue;
            }
            let path = self.store.either(&layer);
            let path = path.ok_or_else(|| format!("layer {} is missing", layer.0))?;
            let said = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
            let content = File::open(&path).and_then(archive::unpacked);
            let goods = Goods::read(content.map_err(|error| said(&error))?);
            let goods = goods.map_err(|why| said(&why))?;
            if self.held_bytes + goods.bytes() <= HELD_BYTES_MAX {
                self.held_bytes += goods.bytes();
                self.held.insert(layer.1, goods.clone());
            }
            whole.lay(goods);
        }
        bill(names, image.entry.digest()?, &whole, created)
    }
}

impl Goods {
    fn read(layer: impl Read) -> Result<Self, String> {
        let mut goods = Self::default();
        let mut left = LISTS_BYTES_MAX;
        let mut archive = tar::Archive::new(layer);
        let said = |error: std::io::Error| format!("it is no layer: {error}");
        for entry in archive.entries().map_err(said)? {
            let mut entry = entry.map_err(said)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(path) = layout::clean(path.trim_start_matches('/')) else { continue };
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let kind = entry.header().entry_type();
            if name == ALL_GONE {
                if folder.is_empty() || concerns(folder) {
                    goods.emptied.insert(folder.to_owned());
                }
            } else if let Some(name) = name.strip_prefix(GONE) {
                let path = if folder.is_empty() { name.into() } else { format!("{folder}/{name}") };
                if concerns(&path) {
                    goods.gone.insert(path);
                }
            } else if concerns(&path) && !kind.is_dir() {
                // Whatever stands there now, what was there is gone; a link is followed nowhere.
                let list = match kind {
                    EntryType::Regular if is_list(&path) && !is_rpm(&path) => {
                        let mut text = Vec::new();
                        let mut content = (&mut entry).take(left + 1);
                        content.read_to_end(&mut text).map_err(|e| format!("{path}: {e}"))?;
                        left = left.checked_sub(text.len() as u64).ok_or_else(|| {
                            format!("its lists of packages are longer than {LISTS_BYTES_MAX} bytes")
                        })?;
                        Some(List::Text(text))
                    }
                    EntryType::Regular | EntryType::Link if is_list(&path) => Some(List::Unread),
                    _ => None,
                };
                goods.gone.insert(path.clone());
                if let Some(list) = list {
                    goods.lists.insert(path, list);
                }
            }
            if goods.gone.len() + goods.emptied.len() > LISTS_MAX {
                return Err(format!(
                    "it has or takes away more than {LISTS_MAX} lists of packages"
                ));
            }
        }
        Ok(goods)
    }

    /// Lays a layer over what is there.
    fn lay(&mut self, upper: Self) {
        self.lists.retain(|path, _| {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            let mut above_or_root = above.clone().chain([""]);
            let is_gone =
                upper.gone.contains(path) || above.clone().any(|at| upper.gone.contains(at));
            !is_gone && !above_or_root.any(|at| upper.emptied.contains(at))
        });
        self.lists.extend(upper.lists);
    }

    /// How much memory it takes, nearly.
    fn bytes(&self) -> usize {
        let lists = self.lists.iter().map(|(path, list)| match list {
            List::Text(text) => path.len() + text.len(),
            List::Unread => path.len(),
        });
        lists.sum::<usize>() + self.gone.iter().chain(&self.emptied).map(String::len).sum::<usize>()
    }

    fn text(&self, path: &str) -> Option<Cow<'_, str>> {
        match self.lists.get(path)? {
            List::Text(text) => Some(String::from_utf8_lossy(text)),
            List::Unread => None,
        }
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
        let each = self.lists.keys().filter(|path| path.starts_with(DPKG_EACH));
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

/// Whether a list is there, or may be below it.
fn concerns(path: &str) -> bool {
    let roots = [DPKG, DPKG_EACH].into_iter().chain(APK).chain(SYSTEM).chain(RPM);
    let is_above = |root: &str| {
        let rest = root.trim_end_matches('/').strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    roots.into_iter().any(is_above) || is_list(path)
}

fn is_list(path: &str) -> bool {
    // Distroless images have sums beside the lists.
    let is_one = path.strip_prefix(DPKG_EACH).is_some_and(|name| !name.ends_with(".md5sums"));
    is_one || path == DPKG || APK.contains(&path) || SYSTEM.contains(&path) || is_rpm(path)
}

/// An entry of dpkg's list, if its files are there. <https://manpages.debian.org/dpkg-query>
fn of_dpkg(entry: &str) -> Option<Package> {
    let field = |name: &str| {
        let mut lines = entry.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
    };
    // What was removed and not purged stays on the list. Distroless lists have no such field.
    let is_gone = |status: &String| {
        ["config-files", "not-installed"].iter().any(|state| status.ends_with(state))
    };
    let is_gone = field("Status").is_some_and(|status| is_gone(&status));
    let package = Package {
        name: field("Package").filter(|_| !is_gone)?,
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

fn bill(
    names: &[&Reference],
    manifest: Digest,
    goods: &Goods,
    created: &str,
) -> Result<Value, String> {
    let said = |error: packageurl::Error| error.to_string();
    let (name, others) = names.split_first().ok_or("it has no name")?;
    let short = name.path.rsplit('/').next().unwrap_or(&name.path);
    let mut url = PackageUrl::new("oci", short.to_owned()).map_err(said)?;
    url.with_version(manifest.prefixed()).map_err(said)?;
    url.add_qualifier("repository_url", name.repository()).map_err(said)?;
    if let Version::Tag(tag) = &name.version {
        url.add_qualifier("tag", tag.clone()).map_err(said)?;
    }
    let own = url.to_string();
    let (id, release) = goods.system();
    let mut packages = BTreeMap::new();
    for (kind, namespace, found) in
        [("deb", "debian", goods.of_dpkg()), ("apk", "alpine", goods.of_apk())]
    {
        let namespace = id.as_deref().unwrap_or(namespace);
        let distro = release.as_ref().map(|release| format!("{namespace}-{release}"));
        for package in found {
            let url = package.url(kind, namespace, distro.as_deref()).map_err(said)?;
            packages.insert(url, package);
        }
    }
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    let urls: Vec<&String> = packages.keys().collect();
    match &id {
        Some(id) => {
            let mut system = json!({"type": "operating-system", "bom-ref": SYSTEM_REF, "name": id});
            if let Some(release) = &release {
                system["version"] = json!(release);
            }
            components.push(system);
            dependencies.push(json!({"ref": own, "dependsOn": [SYSTEM_REF]}));
            dependencies.push(json!({"ref": SYSTEM_REF, "dependsOn": urls}));
        }
        None => dependencies.push(json!({"ref": own, "dependsOn": urls})),
    }
    components.extend(packages.iter().map(|(url, package)| package.component(url)));
    let unread = goods.lists.iter().filter(|(_, list)| **list == List::Unread);
    let unread = unread.map(|(path, _)| json!({"name": "windlass:unread", "value": path}));
    let named =
        others.iter().map(|other| json!({"name": "windlass:name", "value": other.to_string()}));
    let properties: Vec<Value> = named.chain(unread).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": {"components": [{
                "type": "application", "name": "windlass", "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": {
                "type": "container", "bom-ref": own,
                "name": name.repository(), "version": name.version_text(), "purl": own,
                "hashes": [{"alg": "SHA-256", "content": manifest.to_string()}],
                "properties": properties,
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
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

    fn component(&self, url: &str) -> Value {
        let mut said = json!({
            "type": "library", "bom-ref": url,
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

    /// A layer of files; what begins with `->` is a link there, with `=>` another name of what is there.
    fn layer(files: &[(&str, &str)]) -> Goods {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            if let Some(target) = text.strip_prefix("->") {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, path, target).expect("appended");
            } else if let Some(target) = text.strip_prefix("=>") {
                header.set_entry_type(EntryType::Link);
                tar.append_link(&mut header, path, target).expect("appended");
            } else {
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, path, text.as_bytes()).expect("appended");
            }
        }
        Goods::read(&*tar.into_inner().expect("a tar")).expect("a layer")
    }

    fn laid(layers: &[Goods]) -> Goods {
        let mut whole = Goods::default();
        layers.iter().for_each(|layer| whole.lay(layer.clone()));
        whole
    }

    fn bill(goods: &Goods) -> Value {
        let names = ["shop/api:1.2", "shop/api:latest"].map(Reference::parse);
        let names = names.map(|name| name.expect("a name"));
        let names: Vec<&Reference> = names.iter().collect();
        super::bill(&names, Digest::of(b"manifest"), goods, "2026-11-22T08:00:00Z").expect("a bill")
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
        let image = &bill["metadata"]["component"];
        assert_eq!(image["name"], "docker.io/shop/api");
        assert_eq!(image["hashes"][0]["content"], Digest::of(b"manifest").to_string());
        assert_eq!(image["properties"][0]["value"], "docker.io/shop/api:latest");
        // The image, its system, its packages: as scanners follow it.
        assert_eq!(bill["dependencies"][0]["ref"], image["bom-ref"]);
        assert_eq!(bill["dependencies"][0]["dependsOn"][0], bill["components"][0]["bom-ref"]);
        assert_eq!(bill["dependencies"][1]["dependsOn"][1], bill["components"][2]["bom-ref"]);
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
        let beside =
            layer(&[("var/li/.wh.b", ""), ("li/.wh..wh..opq", ""), ("lib/apk/db/inst", "")]);
        assert_eq!(laid(&[lower.clone(), beside]).lists, lower.lists);
        // A link takes the place of what was there, also of a directory above it.
        let merged = layer(&[
            ("lib", "->usr/lib"),
            ("etc/os-release", "->../usr/lib/os-release"),
            ("usr/lib/os-release", "ID=new\n"),
            ("usr/lib/apk/db/installed", "P:musl\nV:2\n"),
        ]);
        let all = ["pkg:apk/new/musl@2", "pkg:deb/new/base-files@12.4%2Bdeb12u9?arch=amd64"];
        assert_eq!(urls(&laid(&[lower.clone(), merged]))[..2], all);
        // What is taken away and written anew in one layer is there, in either order.
        for order in [[0, 1], [1, 0]] {
            let files = [("var/lib/dpkg/.wh..wh..opq", ""), ("var/lib/dpkg/status", STATUS)];
            let upper = layer(&order.map(|at: usize| files[at]));
            assert_eq!(urls(&laid(&[lower.clone(), upper])).len(), 3, "{order:?}");
        }
    }

    #[test]
    fn what_is_not_read_is_said() {
        let unread = |goods: &Goods| {
            let bill = bill(goods);
            bill["metadata"]["component"]["properties"][1]["value"].as_str().map(str::to_owned)
        };
        let path = "var/lib/rpm/rpmdb.sqlite";
        assert_eq!(unread(&layer(&[(path, "SQLite")])).as_deref(), Some(path));
        // Another name for a file that is not read: what it says is not known, and the older is gone.
        let lower = layer(&[(DPKG, STATUS)]);
        let goods =
            laid(&[lower, layer(&[("kept", "Package: x\nVersion: 1\n"), (DPKG, "=>kept")])]);
        assert_eq!((unread(&goods).as_deref(), urls(&goods).len()), (Some(DPKG), 0));
        assert!(
            Goods::read(&b"no tar at all, and long enough to be a header".repeat(20)[..]).is_err()
        );
    }
}
