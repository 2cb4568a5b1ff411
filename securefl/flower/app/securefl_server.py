from securefl.flower import server_app

app = server_app.app
