"""study_folder."""
