//! The calls of the ImageService, each a file of its own beside this one.

use tonic::{Request, Response, Status};

use super::service::{Kind, Messages, Service};
use super::{image_fs_info, image_list, image_pull, image_remove, image_status};
use crate::proto::runtime::v1 as cri;
use crate::proto::runtime::v1::image_service_server::ImageService;

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<cri::ListImagesRequest>) -> Result<Response<cri::ListImagesResponse>, Status> {
        self.call("ListImages", Kind::Reads, request, image_list::list).await
    }

    async fn stream_images(
        &self,
        request: Request<cri::StreamImagesRequest>,
    ) -> Result<Response<Messages<cri::StreamImagesResponse>>, Status> {
        self.stream("StreamImages", request, image_list::stream).await
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Result<Response<cri::ImageStatusResponse>, Status> {
        self.call("ImageStatus", Kind::Reads, request, image_status::status).await
    }

    async fn pull_image(&self, request: Request<cri::PullImageRequest>) -> Result<Response<cri::PullImageResponse>, Status> {
        self.call("PullImage", Kind::Changes, request, image_pull::pull).await
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Result<Response<cri::RemoveImageResponse>, Status> {
        self.call("RemoveImage", Kind::Changes, request, image_remove::remove).await
    }

    async fn image_fs_info(
        &self,
        request: Request<cri::ImageFsInfoRequest>,
    ) -> Result<Response<cri::ImageFsInfoResponse>, Status> {
        self.call("ImageFsInfo", Kind::Reads, request, image_fs_info::info).await
    }
}
