(set -e; f() { false; echo no; }; f; echo no2); echo $?; (set -e; f() { false; echo in; }; f || echo x)
