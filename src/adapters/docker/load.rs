//! `docker load`: images that come from elsewhere than a registry, and what Docker made of them.

use bollard::query_parameters::{ImportImageOptions, TagImageOptions};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};

use super::Docker;
use super::images::seen;
use crate::kinds::digest::Digest;
use crate::kinds::image::Reference;
use crate::ports::Fault;
use crate::ports::runtime::ImageSeen;

impl Docker {
    /// Hands Docker an archive as it comes.
    pub(crate) async fn load_stream<S>(&self, archive: S) -> Result<(), Fault>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let client = self.client().await?;
        let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
        client
            .import_image_stream(options, archive, None)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(|error| self.fault(&error).while_doing("loading an image"))
    }

    /// Shows how far an image has come that comes from elsewhere, as pulls are shown.
    pub(crate) fn show_pull(&self, image: &str) -> super::progress::Line {
        self.inner.progress.line(image)
    }

    /// `docker save` of one image, as it comes.
    pub(crate) async fn save(
        &self,
        name: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, Fault>> + use<>, Fault> {
        let client = self.client().await?;
        let docker = self.clone();
        let archive = client.export_image(name);
        Ok(archive.map_err(move |error| docker.fault(&error)))
    }

    /// The image that has this config: by it in Docker's classic store, where it is the id. In
    /// containerd's the id is another's digest, so there by name, and it must consist of the layers.
    pub(crate) async fn find_loaded(
        &self,
        config: &Digest,
        diff_ids: &[Digest],
        names: &[String],
    ) -> Result<Option<ImageSeen>, Fault> {
        if let Some(found) = self.inspect_image(&config.prefixed()).await? {
            return Ok(Some(seen(found, None)));
        }
        let layers: Vec<String> = diff_ids.iter().map(Digest::prefixed).collect();
        for name in names {
            let Some(found) = self.inspect_image(name).await? else { continue };
            if found.root_fs.as_ref().and_then(|root| root.layers.as_ref()) == Some(&layers) {
                return Ok(Some(seen(found, None)));
            }
        }
        Ok(None)
    }

    /// How many of these layers, from the lowest up, some image here has. Docker loads an image without
    /// them: it looks for a layer, by all that lies below it, before it opens the layer's file.
    pub(crate) async fn layers_held(&self, diff_ids: &[Digest]) -> Result<usize, Fault> {
        let wanted: Vec<String> = diff_ids.iter().map(Digest::prefixed).collect();
        let mut most = 0;
        for image in self.held().await? {
            let Some(found) = self.inspect_image(&image.id).await? else { continue };
            let layers = found.root_fs.and_then(|root| root.layers).unwrap_or_default();
            most =
                most.max(layers.iter().zip(&wanted).take_while(|(its, ours)| its == ours).count());
            if most == wanted.len() {
                break;
            }
        }
        Ok(most)
    }

    /// Gives an image a name, unless it has it.
    pub(crate) async fn name_image(&self, id: &str, name: &Reference) -> Result<(), Fault> {
        let bearer = self.inspect_image(&name.to_string()).await?;
        if bearer.and_then(|bearer| bearer.id).as_deref() == Some(id) {
            return Ok(());
        }
        let client = self.client().await?;
        let options = TagImageOptions {
            repo: Some(name.repository()),
            tag: Some(name.version_text().to_owned()),
        };
        client
            .tag_image(id, Some(options))
            .await
            .map_err(|error| self.fault(&error).while_doing("naming an image"))
    }
}
