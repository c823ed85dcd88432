//! Which images Docker has, who uses them, and having one of them no more.

use std::collections::BTreeSet;

use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveImageOptions};

use super::{Docker, fault};
use crate::kinds::image::ImageName;
use crate::ports::Fault;

/// An image in Docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldImage {
    /// Docker's id of it.
    pub(crate) id: String,
    /// What it is called in Docker, with tags.
    pub(crate) tags: Vec<String>,
    /// What it is called in Docker, with digests.
    pub(crate) pinned: Vec<String>,
    /// Its size; layers it shares are counted, too.
    pub(crate) bytes: u64,
}

impl Docker {
    /// Every image.
    pub(super) async fn held(&self) -> Result<Vec<HeldImage>, Fault> {
        let client = self.client().await?;
        let images = client.list_images(None::<ListImagesOptions>).await;
        let images = images
            .map_err(|error| self.fault(&error).while_doing("looking through Docker's images"))?;
        let named = |names: Vec<String>| -> Vec<String> {
            names.into_iter().filter(|name| !name.contains("<none>")).collect()
        };
        let held = images.into_iter().map(|image| HeldImage {
            tags: named(image.repo_tags),
            pinned: named(image.repo_digests),
            bytes: u64::try_from(image.size).unwrap_or(0),
            id: image.id,
        });
        Ok(held.collect())
    }

    /// Docker's ids of the images of which there is a container, running or not, and of the pause
    /// image.
    pub(crate) async fn used_images(&self) -> Result<BTreeSet<String>, Fault> {
        let client = self.client().await?;
        let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let containers = client.list_containers(Some(all)).await;
        let containers = containers
            .map_err(|error| self.fault(&error).while_doing("asking which images are in use"))?;
        let of = containers.into_iter().filter_map(|container| container.image_id);
        Ok(of.chain([self.pause_image().await?]).collect())
    }

    /// Removes an image with all its names, unless a container needs it; whether it is gone. It is
    /// never forced: what Docker won't part with stays.
    pub(crate) async fn drop_image(&self, id: &str) -> Result<bool, Fault> {
        let (held, used) = tokio::try_join!(self.held(), self.used_images())?;
        let Some(image) = held.into_iter().find(|image| image.id == id) else {
            return Ok(true);
        };
        if used.contains(id) {
            return Ok(false);
        }
        let client = self.client().await?;
        // Each name by itself, as `docker rmi` asks for, and then what is left without one.
        for name in image.tags.iter().chain(&image.pinned).map(String::as_str).chain([id]) {
            let options = RemoveImageOptions { force: false, ..RemoveImageOptions::default() };
            match client.remove_image(name, Some(options), None).await {
                Ok(_) => {}
                // It went with the name before.
                Err(error) if fault::status(&error) == Some(404) => {}
                Err(error) if fault::status(&error) == Some(409) => {
                    tracing::info!(image = name, %error, "Docker keeps this image");
                    return Ok(false);
                }
                Err(error) => return Err(self.fault(&error).while_doing("removing an image")),
            }
        }
        Ok(true)
    }
}

impl HeldImage {
    /// Its complete names, with tags: Docker shortens them.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let parsed = self.tags.iter().filter_map(|tag| ImageName::parse(tag).ok());
        parsed.map(|name| name.to_string()).collect()
    }

    /// The digests it answers to in Docker, and its id.
    pub(crate) fn digests(&self) -> BTreeSet<String> {
        let pinned = self.pinned.iter().filter_map(|name| Some(name.split_once('@')?.1.to_owned()));
        pinned.chain([self.id.clone()]).collect()
    }
}
