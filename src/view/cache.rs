//! Versions of what is shown, so that a client can list now and be told of changes from then on.
//!
//! A shop window with a diary beside it: the window shows what there is, the diary what came and went
//! and in which order. Whoever remembers the last line he has read can read on; if that page has been
//! torn out, he looks at the window again (410 Gone).
//!
//! ```text
//!   take(picture)                 the world has moved on: every shelf may be stale
//!   list(kind)   ─▶ look ─▶ compare ─▶ changed objects get the next version and a line in the diary
//!   since(kind, version)          the lines after that version, or Gone
//! ```
//! The rule: a kind is drawn only when somebody asks for it, so an agent that nobody watches does
//! nothing here. Between two looks an object may have changed many times; only the outcome is told,
//! as the API allows. The limit: a version means nothing after a restart of the agent; a client that
//! comes with one is told Gone, and lists again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::objects::{self, ANNOTATION_PREFIX, Shown, Since};
use super::picture::Picture;
use crate::kinds::digest::Digest;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::time::Elapsed;

/// Lines kept of each kind's diary: a client that has missed more of them lists again.
const DIARY_MAX: usize = 1000;
/// Lines are kept so long: whoever watches reads them within moments, and one who comes back after a
/// lost connection within seconds. A roll-out fills the diary with some ten megabytes.
const DIARY_KEPT: Duration = Duration::from_secs(60);
/// A kind that nobody has asked for in this time is forgotten.
const IDLE: Duration = Duration::from_secs(600);

/// A version of the whole, and of every object in it: later is higher.
pub type Version = u64;

/// An object with its version.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is called.
    pub key: Key,
    /// Its JSON, its version in it; of a Secret, without values. As text: a tree takes several times as
    /// much, and a roll-out makes thousands.
    pub json: Arc<str>,
    /// Its version.
    pub version: Version,
    /// Its uid: another of its name is another object.
    life: Box<str>,
    /// All that is news if it changes.
    news: Digest,
}

impl Item {
    /// Its JSON as a tree.
    pub fn value(&self) -> Value {
        // What was written here can be read here.
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

/// A line of the diary: what was and what is.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version it led to.
    pub version: Version,
    /// The object before; absent if it is new.
    pub before: Option<Item>,
    /// The object now; absent if it is gone.
    pub after: Option<Item>,
    at: Elapsed,
}

/// The diary does not reach back that far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Gone {
    /// The version that was asked for.
    pub asked: Version,
    /// The oldest from which changes are known.
    pub oldest: Version,
}

/// What is there, at a version.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The version; changes after it are told by [`Cache::since`].
    pub version: Version,
    /// The objects, in order of namespace and name.
    pub items: Vec<Item>,
}

#[derive(Debug)]
struct Shelf {
    items: BTreeMap<Key, Item>,
    diary: VecDeque<Change>,
    /// Changes after this version are all in the diary.
    floor: Version,
    /// The number of the picture from which the items were drawn.
    drawn: u64,
    /// That picture, where the next drawing goes by it; let go once nobody asks.
    basis: Option<Arc<Picture>>,
    asked: Elapsed,
}

/// Versions, lists and diaries of every kind that somebody has asked for lately.
#[derive(Debug)]
pub struct Cache {
    picture: Arc<Picture>,
    pictures: u64,
    version: Version,
    shelves: BTreeMap<Kind, Shelf>,
    /// The latest time it has been told.
    now: Elapsed,
}

impl Cache {
    /// A cache that begins with this picture. `first` must be higher than every version that an
    /// earlier life of this agent may have given, or a client could read on in the wrong diary.
    pub fn new(picture: Arc<Picture>, first: Version) -> Self {
        let now = picture.now.elapsed;
        Self { picture, pictures: 1, version: first, shelves: BTreeMap::new(), now }
    }

    /// Takes a newer picture.
    pub fn take(&mut self, picture: Arc<Picture>) {
        self.now = self.now.max(picture.now.elapsed);
        self.picture = picture;
        self.pictures += 1;
    }

    /// Forgets what nobody is likely to ask for any more, and says whether there was something. Called
    /// now and then, since nothing else happens here once the last client has gone.
    pub fn tidy(&mut self, now: Elapsed) -> bool {
        self.now = self.now.max(now);
        let now = self.now;
        let shelves = self.shelves.len();
        self.shelves.retain(|_, shelf| now.since(shelf.asked) < IDLE);
        let mut forgot = self.shelves.len() < shelves;
        for shelf in self.shelves.values_mut() {
            forgot |= shelf.tear_out(now);
            if now.since(shelf.asked) >= DIARY_KEPT {
                forgot |= shelf.basis.take().is_some();
            }
        }
        forgot
    }

    /// The picture that answers are drawn from.
    pub fn picture(&self) -> &Arc<Picture> {
        &self.picture
    }

    /// Everything of a kind.
    pub fn list(&mut self, kind: Kind) -> Listing {
        let shelf = self.look(kind);
        let items = shelf.items.values().cloned().collect();
        Listing { version: self.version, items }
    }

    /// One object.
    pub fn find(&mut self, key: &Key) -> Option<Item> {
        self.look(key.kind).items.get(key).cloned()
    }

    /// What has changed after `version`, in order.
    pub fn since(&mut self, kind: Kind, version: Version) -> Result<Vec<Change>, Gone> {
        let shelf = self.look(kind);
        let oldest = shelf.floor;
        let changes =
            shelf.diary.iter().filter(|change| change.version > version).cloned().collect();
        // A version from the future was given by another life of this agent.
        if version < oldest || version > self.version {
            return Err(Gone { asked: version, oldest });
        }
        Ok(changes)
    }

    /// The version of the newest change.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Brings a kind's shelf up to date.
    fn look(&mut self, kind: Kind) -> &Shelf {
        let picture = &self.picture;
        // Out of its place meanwhile: should drawing fail, all of it is lost, and clients list again.
        let mut shelf = match self.shelves.remove(&kind) {
            Some(mut shelf) if shelf.drawn != self.pictures => {
                let now = match shelf.basis.take() {
                    Some(basis) => objects::list_since(&basis, picture, kind),
                    None => objects::list(picture, kind).into_iter().map(Since::Drawn).collect(),
                };
                shelf.asked = self.now;
                shelf.compare(now, &mut self.version);
                shelf
            }
            Some(shelf) => shelf,
            None => {
                self.version += 1;
                Shelf::fill(objects::list(picture, kind), self.version)
            }
        };
        shelf.asked = self.now;
        shelf.drawn = self.pictures;
        shelf.basis = objects::goes_by_an_earlier(kind).then(|| picture.clone());
        self.shelves.entry(kind).or_insert(shelf)
    }
}

impl Shelf {
    fn fill(now: Vec<Shown>, version: Version) -> Self {
        let fill = |shown: Shown| (shown.key.clone(), Fresh::of(shown).at(version));
        Self {
            items: now.into_iter().map(fill).collect(),
            diary: VecDeque::new(),
            floor: version,
            drawn: 0,
            basis: None,
            asked: Elapsed::default(),
        }
    }

    fn compare(&mut self, now: Vec<Since>, version: &mut Version) {
        let mut before = std::mem::take(&mut self.items);
        for since in now {
            let shown = match since {
                Since::Drawn(shown) => Fresh::of(shown),
                Since::Same(key) => {
                    self.items.extend(before.remove_entry(&key));
                    continue;
                }
            };
            let old = before.remove(&shown.key);
            let new = match old {
                Some(old) if old.life == shown.life => self.renew(old, shown, version),
                old => {
                    if let Some(old) = old {
                        self.write(Some(old), None, version);
                    }
                    *version += 1;
                    let new = shown.at(*version);
                    self.note(None, Some(new.clone()), *version);
                    new
                }
            };
            self.items.insert(new.key.clone(), new);
        }
        for (_, old) in before {
            self.write(Some(old), None, version);
        }
    }

    /// The object as it is now: with a new version if it says something new.
    fn renew(&mut self, old: Item, shown: Fresh, version: &mut Version) -> Item {
        if old.news == shown.news {
            return shown.at(old.version);
        }
        *version += 1;
        let new = shown.at(*version);
        self.note(Some(old), Some(new.clone()), *version);
        new
    }

    fn write(&mut self, before: Option<Item>, after: Option<Item>, version: &mut Version) {
        *version += 1;
        self.note(before, after, *version);
    }

    fn note(&mut self, before: Option<Item>, after: Option<Item>, version: Version) {
        self.diary.push_back(Change { version, before, after, at: self.asked });
        if self.diary.len() > DIARY_MAX
            && let Some(lost) = self.diary.pop_front()
        {
            self.floor = lost.version;
        }
    }

    /// Drops lines that are too old, and the room they had; says whether there were some.
    fn tear_out(&mut self, now: Elapsed) -> bool {
        let old = self.diary.partition_point(|line| now.since(line.at) >= DIARY_KEPT);
        if let Some(lost) = self.diary.drain(..old).next_back() {
            self.floor = lost.version;
        }
        self.diary.shrink_to(0);
        old > 0
    }
}

/// An object as it is drawn, before it is known whether that is news.
struct Fresh {
    key: Key,
    json: Value,
    life: Box<str>,
    news: Digest,
}

impl Fresh {
    fn of(Shown { key, mut json, hidden }: Shown) -> Self {
        let life = json.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().into();
        // By which commit and line it is known is no news: a push that moves a file changes only that.
        let annotations = json.pointer_mut("/metadata/annotations").map(Value::take);
        let members = annotations.iter().filter_map(Value::as_object).flatten();
        let said = members.filter(|(name, _)| !name.starts_with(ANNOTATION_PREFIX));
        let said: String = said
            .map(|(name, value)| {
                format!(
                    "{name}={value}
"
                )
            })
            .collect();
        let hidden = hidden.map(|hidden| hidden.hex()).unwrap_or_default();
        let parts = [json.to_string(), said, hidden];
        let news = Digest::of_parts(parts.iter().map(String::as_bytes));
        if let Some(annotations) = annotations {
            json["metadata"]["annotations"] = annotations;
        }
        Self { key, json, life, news }
    }

    fn at(mut self, version: Version) -> Item {
        self.json["metadata"]["resourceVersion"] = version.to_string().into();
        let Self { key, json, life, news } = self;
        Item { key, json: json.to_string().into(), version, life, news }
    }
}
