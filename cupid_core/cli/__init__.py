"""Command line: parse, one core call, print. The only room that prints."""
