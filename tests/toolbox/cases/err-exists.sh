# reference: ash
mkdir d; mkdir d 2>&1; touch d/f; rmdir d 2>&1; rm d 2>&1; cp d e 2>&1; ln -s a d/f 2>&1; cat d 2>&1; ls d/f/x 2>&1
