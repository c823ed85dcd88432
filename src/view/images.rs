//! Which images lie on a node, and why each of them stays or may go.
//!
//! A pantry's list on its door: what stands where, how much there is of it, and for whom. How an image
//! stands is decided by [`crate::node::larder`]; here it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::objects::pull::megabytes;
use super::tabs::lay_out;
use crate::kinds::binding::AppName;
use crate::kinds::name::PodKey;
use crate::node::larder::{Limits, Needs, Standing, standing};
use crate::ports::larder::{Place, Stock};

/// So many of those who need an image are named in a line.
const NEEDERS_MAX: usize = 3;
/// kubectl's tab stops.
const PADDING: usize = 3;
const LEAST: usize = 6;

/// Who needs an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needer {
    /// A pod bound to this node.
    Pod(PodKey),
    /// An app, one of whose kept revisions names it.
    App(AppName),
}

impl fmt::Display for Needer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => write!(f, "pod {key}"),
            Self::App(app) => write!(f, "app {app}"),
        }
    }
}

/// The images of a node, and the disks on which they lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// From so many percent of a disk on images go; 100 for never.
    pub high_percent: u64,
    /// Until no more than so many are in use.
    pub low_percent: u64,
    /// The disks.
    pub disks: Vec<DiskFill>,
    /// The images, by disk and name.
    pub images: Vec<Lying>,
}

/// How full a disk is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskFill {
    /// A directory on it.
    pub path: String,
    /// Its size.
    pub bytes_total: u64,
    /// What is left for others than root.
    pub bytes_free: u64,
    /// How much of a hundred is in use.
    pub used_percent: u64,
}

/// An image that lies here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lying {
    /// Its complete names; none if it has lost them.
    pub names: Vec<String>,
    /// What it is called where it lies: Docker's id, or the name in the store.
    pub id: String,
    /// `docker`, unpacked, or `store`, packed.
    pub place: String,
    /// A directory on its disk.
    pub disk: String,
    /// How much goes with it; layers that others share are counted for each in Docker.
    pub bytes: u64,
    /// How it stands.
    pub standing: Standing,
    /// Who needs it.
    pub needed_by: Vec<String>,
}

/// Tells of a node's stock. `needed` has the names that are needed, and by whom.
pub fn images(
    stock: &Stock,
    needed: &BTreeMap<String, BTreeSet<Needer>>,
    limits: &Limits,
) -> Images {
    let needs = Needs::of(needed.keys());
    let lying = stock.images.iter().map(|image| {
        let by = needs.names(image).filter_map(|name| needed.get(name)).flatten();
        let by: BTreeSet<&Needer> = by.collect();
        Lying {
            names: image.names.iter().cloned().collect(),
            id: image.key.1.clone(),
            place: match image.key.0 {
                Place::Docker => "docker".to_owned(),
                Place::Store => "store".to_owned(),
            },
            disk: stock.disks.get(&image.disk).map(|disk| disk.path.clone()).unwrap_or_default(),
            bytes: image.bytes,
            standing: standing(image, &needs, limits),
            needed_by: by.into_iter().map(Needer::to_string).collect(),
        }
    });
    let mut lying: Vec<Lying> = lying.collect();
    lying.sort_by(|one, other| {
        let order = |its: &Lying| (its.disk.clone(), its.names.clone(), its.place.clone());
        order(one).cmp(&order(other)).then_with(|| one.id.cmp(&other.id))
    });
    let disks = stock.disks.values().map(|disk| DiskFill {
        path: disk.path.clone(),
        bytes_total: disk.bytes_total,
        bytes_free: disk.bytes_free,
        used_percent: disk.used_percent(),
    });
    Images {
        high_percent: limits.high_percent,
        low_percent: limits.low_percent,
        disks: disks.collect(),
        images: lying,
    }
}

impl Images {
    /// As people read it; `wide` with ids.
    pub fn text(&self, wide: bool) -> String {
        let mut disks = "DISK\tSIZE\tFREE\tUSED\n".to_owned();
        for disk in &self.disks {
            let (total, free) = (size(disk.bytes_total), size(disk.bytes_free));
            disks.push_str(&format!("{}\t{total}\t{free}\t{}%\n", disk.path, disk.used_percent));
        }
        let rule = match self.high_percent {
            0..100 => format!(
                "What may go goes from {} % of a disk in use, until it is {} %.\n",
                self.high_percent, self.low_percent
            ),
            _ => "Nothing goes by itself: images.collect.above is 100.\n".to_owned(),
        };
        let mut images = "IMAGE\tSIZE\tIN\t".to_owned();
        images.push_str(if wide { "ID\tSTAYS FOR\n" } else { "STAYS FOR\n" });
        for image in &self.images {
            let id = if wide { format!("{}\t", image.id) } else { String::new() };
            let names = if image.names.is_empty() { "<none>" } else { &image.names.join(",") };
            let (size, place, why) = (size(image.bytes), &image.place, image.why());
            images.push_str(&format!("{names}\t{size}\t{place}\t{id}{why}\n"));
        }
        let lay_out = |text: &str| lay_out(text, LEAST, PADDING);
        format!("{}{rule}\n{}", lay_out(&disks), lay_out(&images))
    }
}

fn size(bytes: u64) -> String {
    format!("{} MB", megabytes(bytes))
}

impl Lying {
    /// For whom it stays.
    fn why(&self) -> String {
        let mut needers = self.needed_by.iter().take(NEEDERS_MAX).cloned().collect::<Vec<_>>();
        match self.needed_by.len().saturating_sub(NEEDERS_MAX) {
            0 => {}
            more => needers.push(format!("and {more} more")),
        }
        match (self.standing, needers.is_empty()) {
            (Standing::Used | Standing::Named, false) => needers.join(", "),
            (Standing::Used, true) => {
                "what Windlass did not name: a container, a bundle".to_owned()
            }
            (Standing::Named, true) => "a template that pods are made of".to_owned(),
            (Standing::Foreign, _) => "whoever brought it: not Windlass".to_owned(),
            (Standing::Idle, _) => "nobody: may go".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::name::Name;
    use crate::ports::larder::{Disk, Image, Named};

    fn image(name: &str, place: Place, is_used: bool, is_ours: bool) -> Image {
        Image {
            key: (place, format!("sha256:{name}")),
            disk: 1,
            names: name.split_whitespace().map(str::to_owned).collect(),
            digests: [format!("sha256:{name}")].into(),
            bytes: 12_345_678,
            is_used,
            is_ours,
        }
    }

    #[test]
    fn each_image_says_for_whom_it_stays() {
        let disk =
            Disk { path: "/var".into(), bytes_total: 1_000_000_000, bytes_free: 380_000_000 };
        let images_here = [
            ("r/a:1", Place::Docker, true, true),
            ("r/b:1", Place::Docker, false, true),
            ("r/b:1", Place::Store, false, true),
            ("r/c:1", Place::Docker, false, true),
            ("r/d:1", Place::Docker, false, false),
            ("r/e:1", Place::Docker, true, false),
            ("", Place::Docker, false, true),
            ("r/g:1", Place::Docker, false, true),
            ("r/h:1", Place::Docker, false, true),
        ];
        let stock = Stock {
            disks: [(1, disk)].into(),
            images: images_here
                .map(|(name, place, used, ours)| image(name, place, used, ours))
                .into(),
            named: Named::default(),
        };
        let pod = |name: &str| {
            let namespace = Name::trusted("shop");
            Needer::Pod(PodKey { namespace, name: Name::trusted(name) })
        };
        let app = |name: &str| Needer::App(Name::trusted(name));
        let needed = BTreeMap::from([
            ("r/a:1".to_owned(), [pod("x"), pod("y"), pod("z"), app("bank"), app("shop")].into()),
            ("r/b:1".to_owned(), [app("shop")].into()),
            ("elsewhere/g@sha256:r/g:1".to_owned(), [app("bank")].into()),
            ("r/h:1".to_owned(), [].into()),
        ]);
        let told = images(&stock, &needed, &Limits::default());
        assert_eq!(
            told.text(false),
            "\
DISK   SIZE        FREE       USED
/var   1000.0 MB   380.0 MB   62%
What may go goes from 85 % of a disk in use, until it is 80 %.

IMAGE    SIZE      IN       STAYS FOR
<none>   12.3 MB   docker   nobody: may go
r/a:1    12.3 MB   docker   pod shop/x, pod shop/y, pod shop/z, and 2 more
r/b:1    12.3 MB   docker   app shop
r/b:1    12.3 MB   store    app shop
r/c:1    12.3 MB   docker   nobody: may go
r/d:1    12.3 MB   docker   whoever brought it: not Windlass
r/e:1    12.3 MB   docker   what Windlass did not name: a container, a bundle
r/g:1    12.3 MB   docker   app bank
r/h:1    12.3 MB   docker   a template that pods are made of
"
        );
        assert!(told.text(true).contains("docker   sha256:r/c:1   nobody"), "{}", told.text(true));
        let takes_all = Limits { takes_foreign: true, high_percent: 100, ..Limits::default() };
        let told = images(&stock, &needed, &takes_all);
        assert_eq!(told.images.iter().filter(|its| its.standing == Standing::Idle).count(), 3);
        assert!(told.text(false).contains("Nothing goes by itself"));
        let json = serde_json::to_value(&told).expect("prints");
        assert_eq!(serde_json::from_value::<Images>(json).expect("reads"), told);
    }
}
