touch -d '2020-01-01 00:00' f; ls -l f | cut -c1-10
# differs: WASI tells no permissions and no owners
