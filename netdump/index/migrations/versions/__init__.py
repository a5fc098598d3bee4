"""One file a step, `v<number>_<what>.py`. A step is never changed once it was released."""
