seq 10 > f; sed -n 3p f; sed -n '2,4p' f; sed -n '$p' f; sed '2,9d' f; sed -n '/5/,/7/p' f; sed -n '/9/,$p' f; sed '3!d' f; sed -n '4,+2p' f
