printf '#!/bin/sh\necho script $1\n' > s; chmod +x s 2>/dev/null; ./s arg; PATH=.:$PATH s second
