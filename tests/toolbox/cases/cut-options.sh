printf 'a:b:c\nd:e:f\nnone\n' > f; cut -d: -f2 f; cut -d: -f1,3 f; cut -d: -f2- f; cut -d: -s -f1 f; cut -c1-3 f; cut -b2 f; cut -c-2,4 f
