#!/usr/bin/env bash
# The Sweet Home 3D furniture catalogues, for nvs_ros.scenes.sweethome: 120 MB, CC0 and CC-BY.
#
#   scripts/fetch_furniture.sh OUTPUT
#
# Downloads the package from the archive of Debian or Ubuntu without installing it. Root is needed
# only if apt has no package lists yet.
set -euo pipefail

mkdir -p "${1:?"OUTPUT, the folder to fill, is missing"}"
output=$(cd "$1" && pwd)
package=sweethome3d-furniture

if [[ -z $(apt-cache show "$package" 2>/dev/null) ]]; then
  apt-get update
fi
partial=$(mktemp -d)
trap 'rm -rf "$partial"' EXIT
# As root, apt warns that its own user may not write there, but downloads the package.
(cd "$partial" && apt-get download "$package")
dpkg-deb --extract "$partial"/*.deb "$partial/files"
cp "$partial"/files/usr/share/sweethome3d/furniture/*.sh3f "$output"
cp "$partial/files/usr/share/doc/$package/copyright" "$output"
du --bytes --summarize "$output"
