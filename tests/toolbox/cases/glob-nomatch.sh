echo *.nope "[x" 'a*'
