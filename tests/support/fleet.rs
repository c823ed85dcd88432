//! A small fleet to look at: the agent's own state, from the simulation.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use windlass::kinds::name::NodeName;
use windlass::ports::runtime::Pulls;
use windlass::sim::{Files, Weather, World};
use windlass::view::picture::Picture;

/// The only machine.
pub(crate) const NODE: &str = "n0";

/// The manifests of `tests/view/shop`.
pub(crate) fn shop() -> Files {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/view/shop");
    let mut files = Files::new();
    for entry in std::fs::read_dir(dir).expect("the shop's manifests") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a manifest");
        files.insert(format!("shop/{name}"), text);
    }
    files
}

/// A world of one machine in calm weather with the shop pushed; nothing has happened yet.
pub(crate) fn world() -> World {
    let mut world = World::new(7, Weather::default());
    world.store.is_local = true;
    world.remote.commit("shop: the beginning", shop());
    world.add_machine(NODE);
    world
}

/// Lets the world go on until `seconds` after its beginning.
pub(crate) fn run(world: &mut World, seconds: u64) {
    let until = Duration::from_secs(seconds);
    while world.step(until) {}
}

/// What the agent knows now.
pub(crate) fn picture(world: &World) -> Arc<Picture> {
    let machine = &world.machines[&NodeName::trusted(NODE)];
    let agent = machine.agent().expect("the agent runs");
    Arc::new(agent.picture(&Pulls::new(), machine.now(world.time)))
}

/// Edits the shop's front.
pub(crate) fn edit_web(files: &mut Files, old: &str, new: &str) {
    let text = files.get_mut("shop/web.yaml").expect("the shop has a front");
    *text = text.replace(old, new);
}
