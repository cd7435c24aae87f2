(exec > f; echo hidden); cat f; exec 5>&1; echo five >&5
