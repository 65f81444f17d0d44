"""JSON-lines records: parser, index on disk and tasks made from files."""
