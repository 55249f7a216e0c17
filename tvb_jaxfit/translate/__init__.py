"""TVB objects in, pure functions out. This package, `write_back`, `certify` and `data` alone know TVB."""
