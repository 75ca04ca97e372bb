"""What people and programs are handed after a reconstruction: objects.json, pictures, report; knows no network."""
