"""Images of objects: foreground and crop; knows pixels and cameras, never networks."""
