"""Where the time of a run goes, the speed that its stages imply, and the setting to change."""
