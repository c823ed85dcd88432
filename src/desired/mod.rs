//! desired (in progress)
mod base64;
mod defaults;
mod json;
mod meaning;
mod near;
mod path;
mod report;
mod scalar;
mod shape;
pub mod support;
mod tree;
mod walk;
mod yaml;
