//! The adapter: links made, found, mended and taken away.
