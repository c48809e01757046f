"""Former place of `sightstream.images.decode`: recipe files of version 0.1.0 import from here."""

from sightstream import terminal
from sightstream.images.decode import Preprocessing as Preprocessing

terminal.say(
    "a recipe imports from sightstream.imaging, which has moved; write: "
    "from sightstream.images.decode import Preprocessing"
)
