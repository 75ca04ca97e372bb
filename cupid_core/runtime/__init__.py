"""Where networks run, in which precision, and what this machine offers for it."""
