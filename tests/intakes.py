"""The intake of a home folder, as tests of several files make it."""

from streaming.folder.intake import Folders, Intake


def folders(settings):
    return Folders(settings.inbox, settings.images, settings.manifests, settings.stuck)


def intake_of(settings, **more):
    return Intake(folders(settings), settings.acceptance, settings.images_per_batch, **more)
