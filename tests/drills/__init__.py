"""Crash drills: the system runs, something is killed or taken away, and the books must balance."""
