a=1 b=$a c=3 sh -c 'echo [$a] [$b] [$c]'
