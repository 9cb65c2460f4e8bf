"""What demand will be: experts, weighed by what they were wrong by, and calibrated bands."""
