# reference: ash
cat nope 2>&1; ls nope 2>&1; rm nope 2>&1; cp nope x 2>&1; mv nope x 2>&1; mkdir a/b 2>&1; rmdir nope 2>&1; head nope 2>&1; tail nope 2>&1; wc nope 2>&1; sort nope 2>&1; grep x nope 2>&1; touch no/f 2>&1; cut -c1 nope 2>&1; ln nope x 2>&1; readlink nope; sed p nope 2>&1; dd if=nope 2>&1; stat nope 2>&1; du nope 2>&1; find nope 2>&1; md5sum nope 2>&1
