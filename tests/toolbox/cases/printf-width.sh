printf '[%*s] [%-*s] [%.3s] [%+d] [% d]\n' 5 a 5 b abcdef 5 5; printf '%e %g %G\n' 12345.678 0.00001 1e10
