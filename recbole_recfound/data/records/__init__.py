"""Files of records: parser, normal form of questions, index on disk and tasks made from files."""
