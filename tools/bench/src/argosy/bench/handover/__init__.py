"""What a handover costs."""
