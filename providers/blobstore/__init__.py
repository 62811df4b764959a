"""wasi:blobstore as resource-free functions, over one small contract that back ends fulfil."""
