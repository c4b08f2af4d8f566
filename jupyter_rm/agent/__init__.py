"""The agent: one per pilot, on the pilot's head node; places and runs tasks with or without anybody listening."""
