from securefl.flower import client_app

app = client_app.app
