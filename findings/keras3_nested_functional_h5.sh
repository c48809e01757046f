#!/usr/bin/env bash
# Keras 3 opens no .h5 of Keras 2 in which a functional model is a layer of a Sequential one.
#
# keras 3.15.1, tf-keras 2.21.0, tensorflow 2.21.0. The same network opens where the functional
# model is the outermost one. Transfer learning in Keras 2 commonly saved the other shapes: an
# application of keras.applications as a layer of a Sequential model, or (Teachable Machine) of a
# Sequential model within another. The first fails with "Cannot convert ... to a shape", the second
# with "Could not locate class 'Functional'", and with that class in `custom_objects` as the first.
# tf-keras opens all three.
#
# Output seen:
#   keras 3, outermost: opened
#   keras 3, within one: ValueError
#   keras 3, within two, given the class: ValueError
#   keras 3, within two: TypeError
#   tf-keras, outermost: opened
#   tf-keras, within one: opened
#   tf-keras, within two: opened
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow==2.21.0 keras==3.15.1 tf-keras==2.21.0
cat >"$folder/old.py" <<'END'
import tf_keras


def save(name, *layers):
    net = tf_keras.Sequential([*layers, tf_keras.layers.Dense(2)])
    net.build((None, 16, 16, 3))
    net.save(f"{name}.h5")


image = tf_keras.Input((16, 16, 3))
features = tf_keras.layers.GlobalAveragePooling2D()(tf_keras.layers.Conv2D(4, 3)(image))
base = tf_keras.Model(image, features)
base.save("outermost.h5")
save("within one", base)
save("within two", tf_keras.Sequential([base]))
for name in ("outermost", "within one", "within two"):
    tf_keras.models.load_model(f"{name}.h5", compile=False)
    print(f"tf-keras, {name}: opened")
END
cat >"$folder/new.py" <<'END'
import keras


def look(name, **more):
    try:
        keras.models.load_model(f"{name}.h5", compile=False, **more)
    except Exception as error:
        return type(error).__name__
    return "opened"


for name in ("outermost", "within one", "within two"):
    print(f"keras 3, {name}: {look(name)}")
given = {"Functional": type(keras.Model(a := keras.Input((1,)), a))}
print("keras 3, within two, given the class:", look("within two", custom_objects=given))
END
cd "$folder"
export TF_CPP_MIN_LOG_LEVEL=3
for script in old new; do
    venv/bin/python "$script.py" 2>err || { tail -5 err >&2; exit 1; }
done | grep keras | LC_ALL=C sort >seen
cat seen
diff seen - <<'END'
keras 3, outermost: opened
keras 3, within one: ValueError
keras 3, within two, given the class: ValueError
keras 3, within two: TypeError
tf-keras, outermost: opened
tf-keras, within one: opened
tf-keras, within two: opened
END
