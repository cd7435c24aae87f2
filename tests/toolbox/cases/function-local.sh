x=global; f() { local x=inner y; y=1; echo $x $y; g; }; g() { echo "g $x"; x=changed; }; f; echo $x "[$y]"
