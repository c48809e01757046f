"""The server that Streamlit runs: the page, behind a look at who asks."""

import socket
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from sightstream import config
from web.doors import Doors

_settings = config.load()
_names = {"localhost", socket.gethostname(), _settings.web_host, *_settings.web_hosts}

app = st.App(
    Path(__file__).with_name("app.py"),
    middleware=[Middleware(Doors, names=_names, proxies=_settings.web_hosts)],
)
