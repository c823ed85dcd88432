//! A bundle in one file, or cut for small media: `x.wb`, or `x.wb.001`, `x.wb.002` …, which `cat` makes
//! one again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::Refused;

/// A piece of less than this would make thousands of them.
pub const PIECE_BYTES_MIN: u64 = 1 << 20;

/// The pieces of a bundle, of which any may be named. In a directory, of the only one in it.
pub fn find(path: &Path) -> Result<Vec<PathBuf>, Refused> {
    let none =
        |why: String| Refused::new(why, "name a file that `windlass bundle create` has made");
    if path.is_dir() {
        let entries = std::fs::read_dir(path)
            .map_err(|error| none(format!("{} can't be read: {error}", path.display())))?;
        let mut bundles: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| is_bundle(path))
            .map(|path| stem(&path))
            .collect();
        bundles.sort();
        bundles.dedup();
        return match bundles.as_slice() {
            [one] => find(one),
            [] => Err(none(format!("{} holds no bundle (*.wb)", path.display()))),
            many => Err(Refused::new(
                format!("{} holds {} bundles", path.display(), many.len()),
                "name one of them",
            )),
        };
    }
    let whole = stem(path);
    if whole == path && path.is_file() {
        return Ok(vec![whole]);
    }
    let pieces: Vec<PathBuf> =
        (1..).map(|number| piece(&whole, number)).take_while(|piece| piece.is_file()).collect();
    if pieces.is_empty() {
        return Err(none(format!("there is no bundle {}", whole.display())));
    }
    Ok(pieces)
}

/// The piece of that number.
pub fn piece(whole: &Path, number: usize) -> PathBuf {
    let mut name = whole.as_os_str().to_owned();
    name.push(format!(".{number:03}"));
    PathBuf::from(name)
}

/// Whether a file's name is a bundle's, or of the first piece of one.
pub fn is_bundle(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".wb") || name.ends_with(".wb.001")
}

fn stem(path: &Path) -> PathBuf {
    let name = path.to_string_lossy();
    match name.rsplit_once('.') {
        Some((whole, number))
            if number.len() >= 3 && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            PathBuf::from(whole)
        }
        _ => path.to_owned(),
    }
}

/// Reads pieces one after another.
pub struct Pieces {
    waiting: std::vec::IntoIter<PathBuf>,
    now: Option<io::BufReader<File>>,
}

impl Pieces {
    /// Opens a bundle.
    pub fn open(pieces: Vec<PathBuf>) -> Self {
        Self { waiting: pieces.into_iter(), now: None }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(now) = &mut self.now {
                let count = now.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            let Some(next) = self.waiting.next() else { return Ok(0) };
            let file = File::open(&next).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", next.display()))
            })?;
            self.now = Some(io::BufReader::with_capacity(256 << 10, file));
        }
    }
}

/// Writes a file, or pieces of a length. What is there under their names counts only when all is done.
pub struct Cutter {
    whole: PathBuf,
    piece_bytes: Option<u64>,
    number: usize,
    left: u64,
    file: File,
    made: Vec<PathBuf>,
}

const UNFINISHED: &str = ".unfinished";

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

impl Cutter {
    /// Begins a bundle.
    pub fn begin(whole: &Path, piece_bytes: Option<u64>) -> io::Result<Self> {
        let first = if piece_bytes.is_some() { piece(whole, 1) } else { whole.to_owned() };
        Ok(Self {
            whole: whole.to_owned(),
            piece_bytes,
            number: 1,
            left: piece_bytes.unwrap_or(u64::MAX),
            file: File::create(unfinished(&first))?,
            made: vec![first],
        })
    }

    /// Ends it: when this returns, it outlives a power cut. The files it is in.
    pub fn end(self) -> io::Result<Vec<PathBuf>> {
        self.file.sync_all()?;
        // The first comes last: whoever sees it sees all.
        for path in self.made.iter().rev() {
            std::fs::rename(unfinished(path), path)?;
        }
        let parent = self.whole.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(self.made)
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.file.sync_all()?;
            self.number += 1;
            let next = piece(&self.whole, self.number);
            self.file = File::create(unfinished(&next))?;
            self.made.push(next);
            self.left = self.piece_bytes.unwrap_or(u64::MAX);
        }
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let written = self.file.write(&bytes[..count])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_one_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let whole = dir.path().join("x.wb");
        let content: Vec<u8> = (0..2500u32).flat_map(u32::to_be_bytes).collect();
        let mut cutter = Cutter::begin(&whole, Some(999)).expect("begins");
        cutter.write_all(&content).expect("written");
        assert!(find(dir.path()).is_err(), "nothing is there before all is");
        let made = cutter.end().expect("ends");
        assert_eq!(made.len(), 11);
        for named in [&whole, &made[0], &made[7], dir.path()] {
            let mut read = Vec::new();
            Pieces::open(find(named).expect("found")).read_to_end(&mut read).expect("read");
            assert!(read == content, "{}", named.display());
        }
        std::fs::remove_file(&made[5]).expect("removed");
        assert_eq!(find(&whole).expect("found").len(), 5);
    }
}
