"""Time on devices that are not there: device_profiles.py says what they are, round_time.py how long a run takes."""
