//! Finding the objects that a source's paths mean.

mod local;
mod remote;

use bessemer_schemas::ObjectVersion;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::options::ObjectSourceOptions;
use super::pattern::PathPattern;
use crate::Result;

/// What a walk finds.
type Found = BoxStream<'static, Result<ObjectVersion>>;

/// Every object that the source's paths mean, in any order; one that is met twice comes twice.
pub(super) fn objects(options: &ObjectSourceOptions) -> Found {
    let found = options.patterns.patterns.iter().map(|pattern| pattern_objects(options, pattern)).collect::<Vec<_>>();
    let (patterns, format) = (options.patterns.clone(), options.format.clone());
    stream::iter(found)
        .flatten()
        .try_filter(move |version| {
            std::future::ready(patterns.matches(&version.path, |path| format.has_extension(path)))
        })
        .boxed()
}

fn pattern_objects(options: &ObjectSourceOptions, pattern: &PathPattern) -> Found {
    let (location, pattern) = (options.location.clone(), pattern.clone());
    if let Some(folder) = location.local_folder() {
        return local::objects(folder.to_owned(), pattern);
    }
    let format = options.format.clone();
    stream::once(remote::objects(location, pattern, format)).try_flatten().boxed()
}
