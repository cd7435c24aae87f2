f() { trap 'echo cleanup' EXIT; }; f; echo body
