"""Side by side with what people use today: `./run bench` (docs/performance.md)."""
